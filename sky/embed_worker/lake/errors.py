"""What the lake raises.

    LakeError
    ├── StoreUnavailable     it cannot be read or written now: disk full, credentials expired
    │   ├── NoPermission     it refuses this machine
    │   ├── NoSpace          its disk, or this machine's, is full
    │   └── StoreAway        it does not answer; it may in a moment
    ├── NotReady             what is asked for is not made yet
    ├── BadManifest          a manifest is not what was written
    ├── BadJobFile           a job file is missing, or is none
    └── DamagedData          a file is not the one its manifest or commit record names

Each message says what an operator can do.
"""


class LakeError(Exception):
    """Base of all that the lake raises."""


class StoreUnavailable(LakeError):
    """The lake cannot be written or read now."""


class NoPermission(StoreUnavailable):
    """The lake refuses this machine; another one has the same identity."""


class NoSpace(StoreUnavailable):
    """A disk is full: the lake's where it is local, else the one for temporary files."""


class StoreAway(StoreUnavailable):
    """The lake does not answer; it may in a moment."""


class NotReady(LakeError):
    """An input is not materialized yet; the message says which."""


class BadManifest(LakeError):
    """A manifest is not JSON, was changed since it was written, or is not of the lake's format."""


class BadJobFile(LakeError):
    """A job file is not there, or is no job; the message names the key."""


class DamagedData(LakeError):
    """A file is not the one its manifest or commit record names."""
