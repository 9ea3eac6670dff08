"""Names of video files."""

import re

# Suffixes of videos. The `videofolder` builder of `datasets` reads only some of them.
VIDEO_NAME = re.compile(r"\.(3gp|avi|flv|gif|m2ts|m4v|mkv|mov|mp4|mpe?g|mts|ogv|ts|vob|webm|wmv)$", re.IGNORECASE)
