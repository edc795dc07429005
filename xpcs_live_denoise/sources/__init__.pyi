"""Where frames come from: documents, files, other processes, stored runs."""

from .assets import positive_int as positive_int
from .documents import DocumentsByRun as DocumentsByRun
from .documents import RunDocuments as RunDocuments
from .documents import plain_document as plain_document
from .eiger.reconcile import Followed as Followed
from .eiger.reconcile import Following as Following
from .eiger.reconcile import follow as follow
from .file_roots import FileRoots as FileRoots
from .frame_time import EventTimes as EventTimes
from .frame_time import FrameTime as FrameTime
from .frame_time import choose_frame_time as choose_frame_time
from .frames import FrameReader as FrameReader
from .frames import read_tiled as read_tiled
from .frames import read_with_gaps as read_with_gaps
from .metadata import find_exposure as find_exposure
from .metadata import find_frame_time as find_frame_time
from .metadata import find_geometry as find_geometry
from .metadata import geometry_conflicts as geometry_conflicts
from .remote.publisher import document_publisher as document_publisher
from .remote.receiver import RemoteDocuments as RemoteDocuments
from .roi_files import load_rois as load_rois
from .roi_files import open_flat_field as open_flat_field
from .roi_files import open_rois as open_rois
from .roi_files import save_rois as save_rois
from .stored.documents import TiledDocuments as TiledDocuments
from .stored.runs import TiledRuns as TiledRuns
