"""Version string of the generation being played."""
from standin_profile import PROFILE

__version__ = PROFILE.version
