package container

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// wantedInotify is for a rack of nodes: the kernel counts inotify objects per user
// over all namespaces, root's share is 128 by default, and one node of a cluster
// holds about 25 (systemd, its services, kubelet, containerd, API server). Without
// an object left, systemd does not start.
const wantedInotify = 8192

// raiseHostLimits makes room on the host for what machines hold. It only ever
// raises a limit, and leaves it so: others may have come to rely on it.
func raiseHostLimits() error {
	return raise("/proc/sys/fs/inotify/max_user_instances", wantedInotify)
}

func raise(path string, wanted int) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("limit of the host: %w", err)
	}
	now, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("limit of the host: %s: %w", path, err)
	}
	if now >= wanted {
		return nil
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(wanted)), 0); err != nil {
		return fmt.Errorf("raise a limit of the host from %d to %d: %w", now, wanted, err)
	}
	return nil
}
