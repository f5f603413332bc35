#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Boots an image at a site once it is there: boot_at_site.py IMAGE_ID SITE; OS_* says who asks."""

import hashlib
import sys
import time

import openstack


def boot(image):
    """Stands for what a hypervisor does: reads the image, and sees that it is the right one."""
    seen = hashlib.new(image.hash_algo)
    for piece in glance.download_image(image, stream=True).iter_content(1 << 20):
        seen.update(piece)
    sys.exit(None if seen.hexdigest() == image.hash_value else "these are other bytes")


image_id, site = sys.argv[1:]
glance = openstack.connect().image
replica = f"/images/{image_id}/replicas/{site}"
answer = glance.get(replica)  # ask
if answer.status_code == 404 or (answer.ok and answer.json()["status"] != "active"):
    answer = glance.put(replica)  # trigger
give_up_at = time.monotonic() + 600
while answer.ok and answer.json()["status"] != "active" and time.monotonic() < give_up_at:
    time.sleep(float(answer.headers.get("Retry-After", 0)))
    answer = glance.get(replica, params={"wait": 60})  # wait
if not answer.ok or answer.json()["status"] != "active":
    sys.exit(f"{image_id} is not at {site}: {answer.text}")
boot(glance.get_image(image_id))
