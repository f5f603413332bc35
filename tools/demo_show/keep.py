# SPDX-License-Identifier: Apache-2.0
"""Leaves the demo running, and says what to try."""

import shlex
import signal
import sys
from pathlib import Path

from tools.demo_show import acts
from tools.demo_show.diskimage import DiskImage
from tools.demo_show.stage import USER, Stage

_BIN = Path(sys.executable).parent


def write_environment(stage: Stage, user: tuple[str, str]) -> Path:
    """Write a file to be sourced by a shell that wants to be this user of the demo's cloud."""
    settings = {
        **stage.keystone.client_environment(*user),
        # Where glance-repl-manage looks for the configuration, as Glance does.
        "OS_GLANCE_CONFIG_DIR": str(stage.glance.config_dir),
    }
    lines = [
        f"export {name}={shlex.quote(value)}"
        for name, value in settings.items()
        if name.startswith("OS_")
    ]
    lines.append(f"export PATH={shlex.quote(str(_BIN))}:$PATH")
    path = stage.directory / f"{user[0]}.rc"
    path.write_text("\n".join(lines) + "\n")
    return path


def what_to_try(stage: Stage, image: DiskImage) -> str:
    """The text for the user; makes the files that it names."""
    user = write_environment(stage, USER)
    admin = write_environment(stage, ("admin", "admin"))
    again = shlex.join(["openstack", *acts.upload_command(image, "another-image")])
    name, target = next(iter(stage.targets.items()))
    return f"""
== Everything is left running. In another terminal:
   . {user}
   {again}
   openstack image show -c properties another-image
   glance-repl-manage status
   glance-repl-manage check

   kill -STOP {target.pid}     {name} hangs: upload again, and see that nobody waits for it
   kill -CONT {target.pid}     ... and that its location appears by itself

   . {admin}      to be the administrator
   {stage.directory}      has the configuration and the logs of all servers
"""


def wait() -> None:
    """Wait for Enter, or Ctrl-C where there is no terminal."""
    try:
        if sys.stdin.isatty():
            input("Enter or Ctrl-C stops and removes everything: ")
        else:
            print("Ctrl-C stops and removes everything.", flush=True)
            signal.pause()
    except (EOFError, KeyboardInterrupt):
        print()
