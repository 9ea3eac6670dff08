"""Names of video files."""

import re

# Suffixes of the videos that are found in folders. The `videofolder` builder of `datasets` reads only some of them.
VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
    *(".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
VIDEO_NAME = re.compile(rf"({'|'.join(map(re.escape, VIDEO_SUFFIXES))})$", re.IGNORECASE)
