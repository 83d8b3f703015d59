package machinetest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"testing"

	"metalrise.dev/lab/machine"
)

// guest says how the suite configures a booted system.
type guest struct {
	spec machine.Spec
	host string // host name to set
	addr string // static address with prefix length
	url  string // where to ask over the network; "" for nowhere
	then string // what to do at the end: "", "reboot" or "poweroff"
}

// script prints what the system sees of its machine. It reads only what every
// Linux shows; lines start with a prefix that the console reader looks for.
const script = `#!/bin/bash
exec >/dev/console 2>&1
say() { echo "CHECK $1=$2"; }
say boots $(( $(wc -l < /var/lib/boots 2>/dev/null || echo 0) + 1 )); echo up >> /var/lib/boots
say hostname "$(cat /proc/sys/kernel/hostname)"
say cmdline "$(cat /proc/cmdline)"
say file "$(cat /etc/machinetest)"
say core "$(id -nG core)"
say boot_id "$(cat /proc/sys/kernel/random/boot_id)"
say memory "$(sed -n 's/^MemTotal: *//p' /proc/meminfo)"
for k in product_uuid product_serial sys_vendor product_name; do say $k "$(cat /sys/class/dmi/id/$k)"; done
[ -d /sys/firmware/efi ] && say efi yes || say efi no
for d in /sys/class/block/sd?; do
  n=${d##*/}
  say disk.$(cat $d/device/wwid | cut -c1-20) "$(tail -c +5 $d/device/vpd_pg80 | tr -d ' \0') $(cat $d/size) $(cat $d/queue/rotational) $n $(cat $d/device/model)"
done
for l in /dev/disk/by-id/wwn-*; do say link.${l##*/} "$(readlink -f $l | sed 's,.*/,,')"; done
for n in /sys/class/net/*; do say nic.$(cat $n/address) "${n##*/}"; done
[ -n "$URL" ] && say net "$(curl -sS --max-time 20 --retry 20 --retry-delay 1 --retry-all-errors $URL 2>&1 | tail -n 1)"
say state "$(systemctl is-system-running --wait)"
say failed "$(systemctl --failed --no-legend --plain | cut -d' ' -f1 | tr '\n' ' ')"
say done yes
[ -n "$THEN" ] && systemctl --no-block $THEN
exit 0
`

// Script returns an Ignition config (specification 3.4.0) for a system that runs
// a bash script at the end of its boot, with its output on the console. The
// script may use: say KEY VALUE, seen in Console.Report; Console.Done is closed
// after it.
func Script(t testing.TB, text string, kargs ...string) []byte {
	t.Helper()
	const head = "#!/bin/bash\nexec >/dev/console 2>&1\nsay() { echo \"CHECK $1=$2\"; }\n"
	unit := "[Unit]\nDescription=Run the script\n[Service]\nType=exec\nExecStart=/usr/local/bin/machinetest\n[Install]\nWantedBy=multi-user.target\n"
	return render(t, []any{file("/usr/local/bin/machinetest", 0o755, head+text+"\nsay done yes\n")}, unit, kargs)
}

func file(path string, mode int, text string) map[string]any {
	return map[string]any{"path": path, "mode": mode, "overwrite": true,
		"contents": map[string]any{"source": "data:," + url.PathEscape(text)}}
}

func render(t testing.TB, files []any, unit string, kargs []string) []byte {
	t.Helper()
	c := map[string]any{
		"ignition": map[string]any{"version": "3.4.0"},
		"storage":  map[string]any{"files": files},
		"systemd": map[string]any{"units": []any{
			map[string]any{"name": "machinetest.service", "enabled": true, "contents": unit},
		}},
	}
	if len(kargs) > 0 {
		c["kernelArguments"] = map[string]any{"shouldExist": kargs}
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// config returns the Ignition config for a guest (specification 3.4.0).
func config(t *testing.T, g guest) []byte {
	t.Helper()
	keyfile := fmt.Sprintf("[connection]\nid=lab\ntype=ethernet\n\n[ethernet]\nmac-address=%s\n\n[ipv4]\nmethod=manual\naddress1=%s\n\n[ipv6]\nmethod=disabled\n",
		g.spec.NICs[0].MAC, g.addr)
	// Not a oneshot: the unit waits for the end of the boot that it is part of.
	unit := fmt.Sprintf("[Unit]\nDescription=Say what the machine is\nWants=network-online.target\nAfter=network-online.target\n"+
		"[Service]\nType=exec\nEnvironment=URL=%s THEN=%s\nExecStart=/usr/local/bin/machinetest\n[Install]\nWantedBy=multi-user.target\n", g.url, g.then)
	return render(t, []any{
		file("/etc/hostname", 0o644, g.host+"\n"),
		file("/etc/machinetest", 0o644, "written by ignition for "+g.spec.Name+"\n"),
		file("/usr/local/bin/machinetest", 0o755, script),
		file("/etc/NetworkManager/system-connections/lab.nmconnection", 0o600, keyfile),
	}, unit, nil)
}
