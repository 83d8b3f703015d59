// Command init is the whole system of a machine in tests: it prints that it runs
// and with which arguments, and switches the machine off.
package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

func main() {
	_ = os.MkdirAll("/proc", 0o755)
	_ = os.MkdirAll("/sys", 0o755)
	_ = syscall.Mount("proc", "/proc", "proc", 0, "")
	_ = syscall.Mount("sysfs", "/sys", "sysfs", 0, "")
	line, _ := os.ReadFile("/proc/cmdline")
	extra, _ := os.ReadFile("/extra")
	_, uefi := os.Stat("/sys/firmware/efi")
	fmt.Printf("\nMARKER uefi=%v extra=%q cmdline=%s\n", uefi == nil, extra, strings.TrimSpace(string(line)))
	time.Sleep(time.Second)
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}
