"""The commands of main.py, one module each; `engine.cli` picks one."""
