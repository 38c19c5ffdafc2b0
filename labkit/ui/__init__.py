"""What a notebook shows besides kubectl's own output: files with highlighting, and readiness as it comes."""

from labkit.display import code, command, message, show, table
from labkit.ui.files import show_yaml
from labkit.ui.readiness import ReadinessPanel, ready, watch

__all__ = ["ReadinessPanel", "code", "command", "message", "ready", "show", "show_yaml", "table", "watch"]
