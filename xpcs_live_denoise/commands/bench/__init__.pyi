"""`bench`: how fast this machine is, beside others, in one run."""

from .command import bench as bench
