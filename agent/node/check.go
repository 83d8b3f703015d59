package node

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"strings"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// Bounds of a task. A control plane's list of files and images is some 100 steps.
const (
	maxID      = 100
	maxName    = 200
	maxSteps   = 2000
	maxFile    = 4 << 20
	maxBytes   = 64 << 30 // of one fetched content
	maxArgs    = 512
	maxArg     = 32 << 10
	maxRefs    = 1000
	maxRun     = 2 * time.Hour
	usualRun   = 10 * time.Minute
	permission = 0o777
)

// Check tells what is wrong with a task, before any step of it is begun. The
// error is a fleet.Fault of kind invalid.
func Check(t callhome.Task) error {
	bad := func(format string, args ...any) error {
		return fleet.NewFault(fleet.CodeNodePrepare, fleet.Invalid, nil, "task %.100q is refused: %s", t.ID, fmt.Sprintf(format, args...))
	}
	if !IsID(t.ID) {
		return bad("its ID is not 1 to %d of a-z, 0-9 and '-'", maxID)
	}
	if len(t.Steps) == 0 || len(t.Steps) > maxSteps {
		return bad("%d steps, want 1 to %d", len(t.Steps), maxSteps)
	}
	for i, s := range t.Steps {
		if why := checkStep(s); why != "" {
			return bad("step %d, %.100q: %s", i+1, s.Name, why)
		}
	}
	return nil
}

// IsID tells whether a text can name a task.
func IsID(s string) bool {
	return s != "" && len(s) <= maxID && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// checkStep says what is wrong with a step, "" when nothing is.
func checkStep(s callhome.Step) string {
	if len(s.Name) > maxName {
		return fmt.Sprintf("its name is longer than %d bytes", maxName)
	}
	kinds, why := 0, ""
	also := func(set bool, check func() string) {
		if set {
			kinds++
			why = check()
		}
	}
	also(s.Fetch != nil, func() string { return checkFetch(*s.Fetch) })
	also(s.File != nil, func() string { return checkFile(*s.File) })
	also(s.Image != nil, func() string { return checkImage(*s.Image) })
	also(s.Unit != nil, func() string { return checkUnit(*s.Unit) })
	also(s.Run != nil, func() string { return checkRun(*s.Run) })
	also(s.Claim != nil, func() string { return checkClaim(*s.Claim) })
	also(s.Gone != nil, func() string { return checkGone(*s.Gone) })
	if kinds != 1 {
		return fmt.Sprintf("it is of %d kinds that this agent knows, want exactly one", kinds)
	}
	return why
}

func checkFetch(s callhome.FetchStep) string {
	if _, ok := mayWrite(s.To); !ok {
		return refusedPath("write", s.To)
	}
	if why := checkMode(s.Mode); why != "" {
		return why
	}
	return checkContent(s.Path, s.SHA256, s.Bytes)
}

func checkContent(from, sum string, bytes int64) string {
	switch {
	case !plain(from) || strings.ContainsAny(from, "?#%"):
		return "the content's path is not one below the ticket's address"
	case len(sum) != 64 || strings.Trim(sum, "0123456789abcdef") != "":
		return fmt.Sprintf("%.70q is no SHA-256 in lower-case hexadecimal", sum)
	case bytes < 0 || bytes > maxBytes:
		return fmt.Sprintf("%d bytes, want 0 to %d", bytes, int64(maxBytes))
	}
	return ""
}

func checkMode(mode uint32) string {
	if mode == 0 || mode&^permission != 0 {
		return fmt.Sprintf("mode %#o: want permission bits, at least one", mode)
	}
	return ""
}

func checkFile(s callhome.FileStep) string {
	if _, ok := mayWrite(s.To); !ok {
		return refusedPath("write", s.To)
	}
	if s.Target != "" {
		if len(s.Data) > 0 {
			return "it is both a file and a link"
		}
		if !mayPoint(s.To, s.Target) {
			return fmt.Sprintf("a link may not lead to %.200q", s.Target)
		}
		return ""
	}
	if len(s.Data) > maxFile {
		return fmt.Sprintf("%d bytes, want at most %d", len(s.Data), maxFile)
	}
	return checkMode(s.Mode)
}

func checkImage(s callhome.ImageStep) string {
	if len(s.References) == 0 || len(s.References) > maxRefs {
		return fmt.Sprintf("%d references, want 1 to %d", len(s.References), maxRefs)
	}
	for _, r := range s.References {
		if !isReference(r) {
			return fmt.Sprintf("%.200q is no image reference", r)
		}
	}
	return checkContent(s.Path, s.SHA256, s.Bytes)
}

// isReference keeps anything that a program could take for an option, or a
// terminal for an order, out of an argument list.
func isReference(r string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return r != "" && len(r) <= 512 && strings.ContainsRune(letters, rune(r[0])) && strings.Trim(r, letters+"._-/:@+") == ""
}

func checkUnit(s callhome.UnitStep) string {
	switch s.Verb {
	case "daemon-reload":
		if s.Name != "" {
			return "daemon-reload is not said of a unit"
		}
		return ""
	case "enable", "start", "restart", "stop", "disable":
	default:
		return fmt.Sprintf("%.30q is no verb for a unit", s.Verb)
	}
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.@-"
	stem := path.Ext(s.Name)
	switch {
	case len(s.Name) > 255 || s.Name == "" || s.Name[0] == '-' || s.Name[0] == '.' || strings.Trim(s.Name, allowed) != "":
		return fmt.Sprintf("%.100q is no name of a unit", s.Name)
	case stem != ".service" && stem != ".socket" && stem != ".timer" && stem != ".target" && stem != ".mount" && stem != ".path" && stem != ".slice":
		return fmt.Sprintf("%.100q does not end like the name of a unit", s.Name)
	case strings.HasPrefix(s.Name, "metalrise-"):
		return "the agent's own units are not a task's business"
	}
	return ""
}

func checkRun(s callhome.RunStep) string {
	if len(s.Argv) == 0 || len(s.Argv) > maxArgs {
		return fmt.Sprintf("%d arguments, want 1 to %d", len(s.Argv), maxArgs)
	}
	total := 0
	for _, a := range s.Argv {
		total += len(a)
		if strings.ContainsRune(a, 0) || total > 16*maxArg || len(a) > maxArg {
			return "an argument that no program could get"
		}
	}
	program := s.Argv[0]
	if _, bad := rootOf(program, append(forbidden(), "/tmp", "/var/tmp", "/dev/shm")); bad || !plain(program) {
		return fmt.Sprintf("%.200q is no program of this system", program)
	}
	if s.Timeout < 0 || s.Timeout > maxRun {
		return fmt.Sprintf("timeout %s, want at most %s", s.Timeout, maxRun)
	}
	if s.Unless != "" && !plain(s.Unless) {
		return fmt.Sprintf("%.200q is no plain absolute path", s.Unless)
	}
	return ""
}

func checkClaim(s callhome.ClaimStep) string {
	a, err := netip.ParseAddr(s.Address)
	if err != nil || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
		return fmt.Sprintf("%.60q is no address that a machine could take", s.Address)
	}
	mac, err := net.ParseMAC(s.MAC)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		return fmt.Sprintf("%.60q is no port's MAC address", s.MAC)
	}
	return ""
}

func checkGone(s callhome.RemoveStep) string {
	if _, ok := mayRemove(s.Path); !ok {
		return refusedPath("remove", s.Path)
	}
	return ""
}

func refusedPath(verb, p string) string {
	return fmt.Sprintf("it would %s %.200q, which is none of the places that a task may %s", verb, p, verb)
}
