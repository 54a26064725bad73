"""The contracts between the processes: messages, the loop file, the tables, the policy manifest, the settings.

No torch, no I/O but reading the environment in `schemas.settings` and the loop file in `schemas.loop_file`.
"""
