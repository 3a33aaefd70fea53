"""Folder runs: the same careful engine, whatever is done to each file."""

from rawisp.batch.events import Event, RunReport
from rawisp.batch.folder import enhance_folder, pack_folder
from rawisp.batch.info import info_files
from rawisp.batch.run import RunOptions
from rawisp.batch.tasks import EnhanceSettings, PackSettings, ReadSettings

__all__ = [
    "EnhanceSettings",
    "Event",
    "PackSettings",
    "ReadSettings",
    "RunOptions",
    "RunReport",
    "enhance_folder",
    "info_files",
    "pack_folder",
]
