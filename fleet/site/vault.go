package site

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"filippo.io/age"

	"metalrise.dev/fleet"
)

// VaultFile is the vault's name where a reference gives none.
const VaultFile = "vault.age"

// Where the key of vaults is looked for before a person is asked.
const (
	VaultIdentityEnv   = "METALRISE_VAULT_IDENTITY"   // path of an age identity file
	VaultPassphraseEnv = "METALRISE_VAULT_PASSPHRASE" // the passphrase itself
)

// maxVault bounds a vault file: a thousand entries of the largest size.
const maxVault = 8 << 20

// VaultKey opens vaults: exactly one of its fields is set.
type VaultKey struct {
	Identity   string // path of a file with an age X25519 identity
	Passphrase string
}

// GoString keeps %#v from printing the passphrase.
func (VaultKey) GoString() string { return "site.VaultKey" }

// String keeps %v from printing the passphrase.
func (VaultKey) String() string { return "key of a vault" }

// vaultKey finds the key: identity file, passphrase in the environment, person.
func vaultKey(file string, ask func(string) (string, error)) (VaultKey, error) {
	if path := os.Getenv(VaultIdentityEnv); path != "" {
		return VaultKey{Identity: path}, nil
	}
	if p := os.Getenv(VaultPassphraseEnv); p != "" {
		return VaultKey{Passphrase: p}, nil
	}
	p, err := ask("passphrase of " + file)
	return VaultKey{Passphrase: p}, err
}

// FindVaultKey finds the key of a vault as a reference to it would.
func FindVaultKey(file string) (VaultKey, error) { return vaultKey(file, AskTerminal) }

// Vault is an age-encrypted file of named secrets.
type Vault struct {
	path    string
	key     VaultKey
	entries map[string]string
}

// vaultText is what is encrypted.
type vaultText struct {
	Version int               `json:"version"`
	Entries map[string]string `json:"entries"`
}

// NewVault makes an empty vault at path. It refuses to overwrite one. An
// identity file that does not exist is made, with mode 0600.
func NewVault(path string, key VaultKey) (*Vault, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, unreadable(nil, "vault %s exists", path)
	}
	if key.Identity != "" {
		if err := makeIdentity(key.Identity); err != nil {
			return nil, err
		}
	}
	v := &Vault{path: path, key: key, entries: map[string]string{}}
	return v, v.Save()
}

// OpenVault reads and decrypts the vault at path.
func OpenVault(path string, key VaultKey) (*Vault, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, unreadable(errors.New(reason(err)), "vault %s", path)
	}
	defer in.Close()
	identity, _, err := key.age()
	if err != nil {
		return nil, unreadable(err, "key of vault %s", path)
	}
	plain, err := age.Decrypt(io.LimitReader(in, maxVault), identity)
	if err != nil {
		return nil, unreadable(errors.New("the key does not open it, or it is damaged"), "vault %s", path)
	}
	text, err := io.ReadAll(io.LimitReader(plain, maxVault))
	if err != nil {
		return nil, unreadable(errors.New("it is damaged"), "vault %s", path)
	}
	defer clear(text)
	var t vaultText
	if err := json.Unmarshal(text, &t); err != nil || t.Version != 1 {
		return nil, unreadable(errors.New("it was not written by a metalrise of this version"), "vault %s", path)
	}
	if t.Entries == nil {
		t.Entries = map[string]string{}
	}
	return &Vault{path: path, key: key, entries: t.Entries}, nil
}

// Names lists the entries, sorted. Secrets are not shown.
func (v *Vault) Names() []string { return slices.Sorted(maps.Keys(v.entries)) }

// Get reads one secret.
func (v *Vault) Get(name string) (string, error) {
	s, ok := v.entries[name]
	if !ok {
		return "", fmt.Errorf("vault %s has no entry of that name; it has %d others", v.path, len(v.entries))
	}
	return s, nil
}

// Set keeps one secret. Call Save to write it down.
func (v *Vault) Set(name, secret string) error {
	if !vaultEntry(name) {
		return unreadable(nil, "%q is no name of a vault entry", name)
	}
	if err := checkSecret(secret); err != nil {
		return unreadable(nil, "the secret %v", err)
	}
	v.entries[name] = secret
	return nil
}

// Remove forgets one secret; false when there is none. Call Save afterwards.
func (v *Vault) Remove(name string) bool {
	_, ok := v.entries[name]
	delete(v.entries, name)
	return ok
}

// Save encrypts and writes the vault: whole or not at all.
func (v *Vault) Save() error {
	text, err := json.Marshal(vaultText{Version: 1, Entries: v.entries})
	if err != nil {
		return fmt.Errorf("write vault: %w", err)
	}
	defer clear(text)
	_, recipient, err := v.key.age()
	if err != nil {
		return unreadable(err, "key of vault %s", v.path)
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, recipient)
	if err != nil {
		return fmt.Errorf("encrypt vault: %w", err)
	}
	if _, err = w.Write(text); err == nil {
		err = w.Close()
	}
	if err != nil {
		return fmt.Errorf("encrypt vault: %w", err)
	}
	return replace(v.path, sealed.Bytes(), 0o600)
}

// age gives both directions of a key.
func (k VaultKey) age() (age.Identity, age.Recipient, error) {
	if k.Identity == "" {
		if k.Passphrase == "" {
			return nil, nil, errors.New("the passphrase is empty")
		}
		i, err := age.NewScryptIdentity(k.Passphrase)
		if err != nil {
			return nil, nil, err
		}
		r, err := age.NewScryptRecipient(k.Passphrase)
		return i, r, err
	}
	b, _, err := readSecretFile(k.Identity)
	if err != nil {
		return nil, nil, fmt.Errorf("identity file %s: %w", k.Identity, err)
	}
	defer clear(b)
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		i, err := age.ParseX25519Identity(line)
		if err != nil {
			break // the error could show the key
		}
		return i, i.Recipient(), nil
	}
	return nil, nil, fmt.Errorf("identity file %s holds no X25519 identity of age", k.Identity)
}

// makeIdentity writes a new identity unless there is one.
func makeIdentity(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return unreadable(errors.New(reason(err)), "identity file %s", path)
	}
	i, err := age.GenerateX25519Identity()
	if err == nil {
		_, err = fmt.Fprintf(f, "# public key: %s\n%s\n", i.Recipient(), i)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write identity file %s: %w", path, err)
	}
	return nil
}

func vaultEntry(name string) bool {
	return regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`).MatchString(name)
}

// ParseSecretRef reads a reference on one line: file:PATH, env:NAME,
// vault:NAME, prompt:TEXT. Errors do not show s: it may be the secret itself.
func ParseSecretRef(s string) (fleet.SecretRef, error) {
	kind, rest, ok := strings.Cut(strings.TrimSpace(s), ":")
	rest = strings.TrimSpace(rest)
	var r fleet.SecretRef
	var err error
	switch {
	case !ok || rest == "":
		err = errors.New("a reference has the form file:PATH, env:NAME, vault:NAME or prompt:TEXT; a secret itself must not stand here")
	case kind == "file":
		r.File, err = rest, checkFilePath(rest)
	case kind == "env":
		r.Env, err = rest, checkEnvName(rest)
	case kind == "vault":
		r.Vault, err = rest, checkVaultName(rest)
	case kind == "prompt":
		r.Prompt, err = rest, checkPrompt(rest)
	default:
		err = errors.New("a reference begins with file:, env:, vault: or prompt:; a secret itself must not stand here")
	}
	if err != nil {
		return fleet.SecretRef{}, err
	}
	return r, nil
}
