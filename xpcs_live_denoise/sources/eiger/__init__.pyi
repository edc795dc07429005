"""The files of a DECTRIS Eiger: read, followed while they grow, joined with their documents."""

from .files import Master as Master
from .files import count_written as count_written
from .files import read_eiger as read_eiger
from .files import read_master as read_master
