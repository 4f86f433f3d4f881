"""From a split and a configuration to a bundle. See README.md beside this file."""
