# A stranger's client drives the emulated BMC: python3-sushy, the Redfish library
# of OpenStack Ironic. Configuration comes by the environment; every line printed
# is one JSON object {"step": ..., ...}; any exception fails the test.
import json
import os
import sys
import time

import sushy
from sushy import auth


def say(step, **what):
    print(json.dumps(dict(step=step, **what)), flush=True)


def wait_power(system, want):
    for _ in range(400):
        system.refresh()
        if system.power_state == want:
            return
        time.sleep(0.05)
    sys.exit("power stays %s, want %s" % (system.power_state, want))


def reboot_seen(path, want):
    # The test writes down what the machine booted.
    for _ in range(400):
        with open(path) as f:
            boots = f.read().split()
        if boots == want:
            return
        time.sleep(0.05)
    sys.exit("boots are %s, want %s" % (boots, want))


url, user, password = os.environ["BMC_URL"], os.environ["BMC_USER"], os.environ["BMC_PASS"]
log, image = os.environ["BOOT_LOG"], os.environ["IMAGE_URL"]
# What of the personality this version of the library cannot be expected to know:
# "media" means that it finds no virtual media there, "bios" that it sends no
# ETag with BIOS attributes, "answer" that an insert does not answer with its end.
without = os.environ.get("WITHOUT", "").split()
method = os.environ.get("METHOD")  # transfer method to name, None for none

try:
    sushy.Sushy(url, verify=False, auth=auth.SessionAuth(user, password + "x"))
    sys.exit("a wrong password was taken")
except sushy.exceptions.AccessError:
    say("wrong password refused")

login = auth.SessionAuth(user, password)
root = sushy.Sushy(url, verify=False, auth=login)
system = root.get_system()
say("system", id=system.identity, uuid=system.uuid, serial=system.serial_number, maker=system.manufacturer,
    power=system.power_state.value, memory=system.memory_summary.size_gib, allowed=sorted(v.value for v in system.get_allowed_reset_system_values()),
    targets=sorted(v.value for v in system.get_allowed_system_boot_source_values()))
cpus = system.processors.summary
say("processors", count=cpus.count, arch=cpus.architecture.value)
say("nics", macs=sorted(system.ethernet_interfaces.summary))
drives = [d for s in system.storage.get_members() for d in s.drives]
say("drives", sizes=[d.capacity_bytes for d in drives], serials=[d.serial_number for d in drives],
    names=[d.identifiers[0].durable_name for d in drives], simple=list(system.simple_storage.disks_sizes_bytes))
if "bios" not in without:
    system.bios.set_attribute("ProcVirtualization", "Disabled")
    say("bios", now=system.bios.attributes["ProcVirtualization"], pending=system.bios.pending_attributes["ProcVirtualization"])
say("secureboot", enabled=system.secure_boot.enabled)

manager = system.managers[0]
say("manager", id=manager.identity, kind=manager.manager_type.value, chassis=[c.identity for c in system.chassis])
def insert(drives):
    # Drives that refuse are passed over, as an operator would.
    for drive in drives:
        try:
            drive.insert_media(image, transfer_method=method)
        except sushy.exceptions.HTTPError as e:
            say("drive passed over", id=drive.identity, why=str(e))
            continue
        for _ in range(400):
            drive.refresh()
            if drive.inserted:
                return drive
            time.sleep(0.05)
    sys.exit("no drive takes the image")


def boot_once(target):
    try:
        system.set_system_boot_options(target, sushy.BOOT_SOURCE_ENABLED_ONCE, sushy.BOOT_SOURCE_MODE_UEFI)
    except sushy.exceptions.BadRequestError as e:
        say("mode refused", why=str(e))
        system.set_system_boot_options(target, sushy.BOOT_SOURCE_ENABLED_ONCE)


def restart():
    try:
        system.reset_system(sushy.RESET_FORCE_RESTART)
    except sushy.exceptions.BadRequestError as e:
        say("restart refused", why=str(e))
        system.reset_system(sushy.RESET_FORCE_OFF)
        wait_power(system, sushy.POWER_STATE_OFF)
        system.reset_system(sushy.RESET_ON)


boots = ["disk"]
if "media" not in without:
    drives = [m for m in manager.virtual_media.get_members() if sushy.VIRTUAL_MEDIA_CD in m.media_types]
    if "answer" not in without:
        try:
            drives[0].insert_media(image + ".missing")
            sys.exit("an image that does not exist was inserted")
        except sushy.exceptions.BadRequestError as e:
            say("missing image refused", why=str(e))
    cd = insert(drives)
    say("inserted", inserted=cd.inserted, image=cd.image, via=cd.connected_via.value)
    boot_once(sushy.BOOT_SOURCE_TARGET_CD)
    boots = ["media", "disk"]
else:
    boot_once(sushy.BOOT_SOURCE_TARGET_HDD)
    boots = ["disk", "disk"]
system.refresh()
say("override", enabled=system.boot.enabled.value, target=system.boot.target.value, mode=system.boot.mode.value)
system.reset_system(sushy.RESET_ON)
wait_power(system, sushy.POWER_STATE_ON)
reboot_seen(log, boots)
system.refresh()
say("installed", enabled=system.boot.enabled.value, target=system.boot.target.value)
try:
    system.reset_system(sushy.RESET_ON)
    say("second on taken")
except sushy.exceptions.HTTPError as e:
    say("second on refused", status=e.status_code)
except sushy.exceptions.InvalidParameterValueError as e:
    say("second on refused by the library", why=str(e))

if "media" not in without:
    cd.eject_media()
    cd.refresh()
    say("ejected", inserted=cd.inserted, image=cd.image)
restart()
reboot_seen(log, boots + ["disk"])
if "bios" not in without:
    system.bios.invalidate()
    system.bios.refresh(force=True)
    say("restarted", virtualization=system.bios.attributes["ProcVirtualization"])
system.reset_system(sushy.RESET_GRACEFUL_SHUTDOWN)
wait_power(system, sushy.POWER_STATE_OFF)
login.close()
say("end")
