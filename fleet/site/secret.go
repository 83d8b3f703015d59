package site

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"

	"metalrise.dev/fleet"
)

// maxSecret bounds a secret. Passwords of BMCs end at some 40 bytes.
const maxSecret = 4096

// Secrets reads secrets from where references say, and keeps those that cost a
// person or a key derivation until it is forgotten itself: each prompt is asked
// once, each vault opened once. It may be used from several goroutines.
type Secrets struct {
	// Ask asks a person for a secret; nil asks at the controlling terminal.
	Ask func(question string) (string, error)

	mu     sync.Mutex
	asked  map[string]string
	vaults map[string]*Vault
}

// ResolveSecret reads a secret from where ref says. See Secrets.Resolve.
func ResolveSecret(ref fleet.SecretRef) (string, error) { return new(Secrets).Resolve(ref) }

// Resolve reads a secret from where ref says. One line break at the end is
// taken off. Errors have code SITE-003 and never show the secret.
func (s *Secrets) Resolve(ref fleet.SecretRef) (string, error) {
	if places(ref) != 1 {
		return "", unreadable(nil, "exactly one of file, env, vault and prompt must say where the secret is")
	}
	secret, err := s.read(ref)
	if err != nil {
		return "", unreadable(err, "%s", ref)
	}
	secret = strings.TrimSuffix(strings.TrimSuffix(secret, "\n"), "\r")
	if err := checkSecret(secret); err != nil {
		return "", unreadable(nil, "%s %v", ref, err)
	}
	return secret, nil
}

func checkSecret(secret string) error {
	switch {
	case secret == "":
		return errors.New("is empty")
	case len(secret) > maxSecret:
		return fmt.Errorf("holds more than %d bytes; that is no password", maxSecret)
	case strings.ContainsAny(secret, "\x00\r\n"):
		return errors.New("holds more than one line")
	}
	return nil
}

// places counts how many places a reference names.
func places(ref fleet.SecretRef) int {
	n := 0
	for _, s := range []string{ref.File, ref.Env, ref.Vault, ref.Prompt} {
		if s != "" {
			n++
		}
	}
	return n
}

func (s *Secrets) read(ref fleet.SecretRef) (string, error) {
	switch {
	case ref.Env != "":
		value, ok := os.LookupEnv(ref.Env)
		if !ok {
			return "", errors.New("it is not set")
		}
		return value, nil
	case ref.File != "":
		b, _, err := readSecretFile(ref.File)
		return string(b), err
	case ref.Vault != "":
		return s.fromVault(ref.Vault)
	}
	return s.ask(ref.Prompt)
}

// ask asks each question once. While one is asked the others wait: a person
// answers one at a time.
func (s *Secrets) ask(question string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.askLocked(question)
}

func (s *Secrets) askLocked(question string) (string, error) {
	if answer, ok := s.asked[question]; ok {
		return answer, nil
	}
	ask := s.Ask
	if ask == nil {
		ask = AskTerminal
	}
	answer, err := ask(question)
	if err != nil {
		return "", err
	}
	if s.asked == nil {
		s.asked = map[string]string{}
	}
	s.asked[question] = answer
	return answer, nil
}

// fromVault reads FILE#NAME.
func (s *Secrets) fromVault(at string) (string, error) {
	file, name, ok := strings.Cut(at, "#")
	if !ok {
		file, name = VaultFile, at
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.vaults[file]
	if v == nil {
		key, err := vaultKey(file, s.askLocked)
		if err != nil {
			return "", err
		}
		if v, err = OpenVault(file, key); err != nil {
			return "", err
		}
		if s.vaults == nil {
			s.vaults = map[string]*Vault{}
		}
		s.vaults[file] = v
	}
	return v.Get(name)
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
	b := f.Site().BMCs
	var out []fleet.Finding
	if !b.Password.IsZero() { // Check says it when it must not be
		out = append(out, checkReference(b.Password, "bmcs.password")...)
	}
	for i, c := range b.Credentials {
		if !c.Password.IsZero() {
			out = append(out, checkReference(c.Password, fmt.Sprintf("bmcs.credentials[%d].password", i))...)
		}
	}
	for _, l := range b.Listed {
		if l.Login != nil {
			out = append(out, checkReference(l.Login.Password, fmt.Sprintf("%s:%d", b.Import, l.Line))...)
		}
	}
	return out
}

// checkReference judges what can be judged without asking anybody: a vault must
// be there, a prompt is taken as it is.
func checkReference(ref fleet.SecretRef, path string) []fleet.Finding {
	var err error
	switch file, _, _ := strings.Cut(ref.Vault, "#"); {
	case ref.Prompt != "":
		return nil
	case ref.Vault != "":
		if _, err = os.Stat(file); err != nil {
			err = unreadable(errors.New(reason(err)), "%s", ref)
		}
	default:
		_, err = ResolveSecret(ref)
	}
	if err != nil {
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
