package site

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"metalrise.dev/fleet"
)

// maxSecret bounds a secret. Passwords of BMCs end at some 40 bytes.
const maxSecret = 4096

// ResolveSecret reads a secret from where ref says. One line break at the end is
// taken off. Errors have code SITE-003 and never show the secret.
func ResolveSecret(ref fleet.SecretRef) (string, error) {
	var secret string
	switch {
	case ref.File != "" && ref.Env != "", ref.IsZero():
		return "", unreadable(nil, "exactly one of file and env must say where the secret is")
	case ref.Env != "":
		value, ok := os.LookupEnv(ref.Env)
		if !ok {
			return "", unreadable(nil, "%s is not set", ref)
		}
		secret = value
	default:
		b, _, err := readSecretFile(ref.File)
		if err != nil {
			return "", unreadable(err, "%s", ref)
		}
		secret = string(b)
	}
	secret = strings.TrimSuffix(strings.TrimSuffix(secret, "\n"), "\r")
	switch {
	case secret == "":
		return "", unreadable(nil, "%s is empty", ref)
	case len(secret) > maxSecret:
		return "", unreadable(nil, "%s holds more than %d bytes; that is no password", ref, maxSecret)
	case strings.ContainsAny(secret, "\x00\r\n"):
		return "", unreadable(nil, "%s holds more than one line", ref)
	}
	return secret, nil
}

func unreadable(err error, format string, args ...any) error {
	return fleet.NewFault(fleet.CodeSecretUnreadable, fleet.Denied, err, format, args...)
}

// readSecretFile reads a regular file. It does not wait for a pipe's other end.
func readSecretFile(path string) ([]byte, os.FileMode, error) {
	in, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, errors.New(reason(err))
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return nil, 0, errors.New(reason(err))
	}
	if !info.Mode().IsRegular() {
		return nil, 0, errors.New("it is no regular file")
	}
	b, err := io.ReadAll(io.LimitReader(in, maxSecret+3)) // room for a line break, and one byte to notice more
	if err != nil {
		return nil, 0, errors.New(reason(err))
	}
	return b, info.Mode(), nil
}

// CheckSecrets looks whether every secret that the site names can be read, and
// warns of files that other users may read. It is apart from Check because it
// reads files and the environment.
func (f *File) CheckSecrets() []fleet.Finding {
	ref := f.Site().BMCs.Password
	if ref.IsZero() {
		return nil // Check says it
	}
	const path = "bmcs.password"
	if _, err := ResolveSecret(ref); err != nil {
		return []fleet.Finding{{Code: fleet.CodeSecretUnreadable, Severity: fleet.Blocker, Path: path, Text: err.Error(),
			Remedy: "Create it (a file should have mode 0600) or correct the reference."}}
	}
	if ref.File == "" {
		return nil
	}
	b, mode, err := readSecretFile(ref.File)
	clear(b)
	if err == nil && mode.Perm()&0o077 != 0 {
		return []fleet.Finding{{Code: fleet.CodeSecretUnreadable, Severity: fleet.Warning, Path: path + ".file",
			Text:   fmt.Sprintf("%s may be read by other users (mode %04o)", ref, mode.Perm()),
			Remedy: fmt.Sprintf("Run `chmod 600 %s`.", ref.File)}}
	}
	return nil
}
