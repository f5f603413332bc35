# SPDX-License-Identifier: Apache-2.0
"""``glance-repl-manage status --watch`` while an upload runs."""

import signal
import subprocess
import sys
import threading

from tests.functional.cloud import MIB
from tests.lab.images import image_bytes
from tests.lab.process import clean_environment, wait_until


def test_an_upload_is_seen_while_it_runs(cloud):
    cloud.wait_replicated(cloud.new_image(b"the writer has made its tables"))
    image_id = cloud.create_image()
    command = [sys.executable, "-m", "glance_repl_mw.cmd.manage"]
    arguments = ["--config-file", str(cloud.glance.config_file), "status", "--watch", "0.2"]
    watch = subprocess.Popen(
        [*command, *arguments], env=clean_environment(), stdout=subprocess.PIPE, text=True
    )
    lines = []
    reader = threading.Thread(target=lambda: [lines.append(line) for line in watch.stdout])
    reader.start()

    def is_seen():
        seen = [line for line in list(lines) if image_id in line]
        return {target for target in cloud.targets if any(target in line for line in seen)}

    def body():
        yield image_bytes(MIB)
        wait_until(lambda: is_seen() == set(cloud.targets), 60, "every push is shown")
        yield image_bytes(MIB)

    try:
        assert cloud.upload(image_id, body(), announce=2 * MIB).status_code == 204
        cloud.wait_replicated(image_id)
        watch.send_signal(signal.SIGINT)
        assert watch.wait(60) == 0
    finally:
        watch.kill()
        watch.wait()
        reader.join()
        watch.stdout.close()
    assert "Traceback" not in "".join(lines)
