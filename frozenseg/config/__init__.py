"""The configuration: keys and defaults, allowed values, and YAML files.

Only ``frozenseg.builders`` and the command line read a configuration; nothing below them sees one.
"""

from frozenseg.config.allowed import check_config
from frozenseg.config.keys import ACCEPTED_UNUSED, default_config, known_keys
from frozenseg.config.loading import CONFIG_ROOT, load_config
from frozenseg.config.models import model_files, model_names
from frozenseg.errors import ConfigError

__all__ = [
    "ACCEPTED_UNUSED",
    "CONFIG_ROOT",
    "ConfigError",
    "check_config",
    "default_config",
    "known_keys",
    "load_config",
    "model_files",
    "model_names",
]
