package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
)

const vaultHelp = `
The key is an age identity file (--identity or $` + site.VaultIdentityEnv + `), else a
passphrase in $` + site.VaultPassphraseEnv + `, else one that is asked for. Site files
refer to an entry by ` + "`password: {vault: NAME}`" + `, or {vault: FILE#NAME}. An engine in
the background cannot ask: give it one of the two variables.
`

// vaultFlags say which vault, and with which key.
type vaultFlags struct{ file, identity string }

func vaultCommand(o *options) *cobra.Command {
	v := &vaultFlags{}
	c := &cobra.Command{
		Use:   "vault",
		Short: "Keep passwords of BMCs in an encrypted file",
		Long:  "vault keeps secrets in one file that is encrypted with age.\n" + vaultHelp + exitHelp,
	}
	f := c.PersistentFlags()
	f.StringVar(&v.file, "vault", site.VaultFile, "the encrypted file")
	f.StringVar(&v.identity, "identity", "", "age identity file that opens it; init makes one that does not exist")
	sub := func(use, short, example string, args cobra.PositionalArgs, run func([]string) error) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, Long: short + ".\n" + vaultHelp + exitHelp, Example: "  " + example, Args: usage(args),
			RunE: func(_ *cobra.Command, args []string) error { return run(args) }}
	}
	c.AddCommand(
		sub("init", "Make an empty vault", "metalrise vault init --identity ~/.metalrise-key", cobra.NoArgs, func([]string) error { return o.vaultInit(v) }),
		sub("set NAME", "Keep a secret, read from standard input or asked for", "metalrise vault set bmc-admin", cobra.ExactArgs(1), func(a []string) error { return o.vaultSet(v, a[0]) }),
		sub("list", "List the names of the secrets, never the secrets", "metalrise vault list", cobra.NoArgs, func([]string) error { return o.vaultList(v) }),
		sub("rm NAME", "Forget a secret", "metalrise vault rm bmc-admin", cobra.ExactArgs(1), func(a []string) error { return o.vaultRemove(v, a[0]) }),
	)
	return c
}

func (v *vaultFlags) key() (site.VaultKey, error) {
	if v.identity != "" {
		return site.VaultKey{Identity: v.identity}, nil
	}
	return site.FindVaultKey(v.file)
}

func (v *vaultFlags) open() (*site.Vault, error) {
	k, err := v.key()
	if err != nil {
		return nil, fleet.NewFault(fleet.CodeSecretUnreadable, fleet.Denied, err, "key of vault %s", v.file)
	}
	return site.OpenVault(v.file, k)
}

func (o *options) vaultInit(v *vaultFlags) error {
	k, err := v.key()
	if err != nil {
		return fleet.NewFault(fleet.CodeSecretUnreadable, fleet.Denied, err, "key of vault %s", v.file)
	}
	if k.Identity == "" && os.Getenv(site.VaultPassphraseEnv) == "" {
		again, err := site.AskTerminal("the same again")
		if err != nil || again != k.Passphrase {
			return fleet.NewFault(fleet.CodeSecretUnreadable, fleet.Invalid, err, "the two passphrases differ")
		}
	}
	if _, err := site.NewVault(v.file, k); err != nil {
		return err
	}
	o.printf("made %s; metalrise vault set NAME puts a secret into it\n", v.file)
	if k.Identity != "" {
		o.printf("%s opens it: keep it apart from the vault, and a copy of it safe\n", k.Identity)
	}
	return nil
}

func (o *options) vaultSet(v *vaultFlags, name string) error {
	vault, err := v.open()
	if err != nil {
		return err
	}
	secret, err := o.typedSecret("secret " + name)
	if err != nil {
		return fleet.NewFault(fleet.CodeSecretUnreadable, fleet.Denied, err, "secret %s", name)
	}
	if err := vault.Set(name, secret); err != nil {
		return err
	}
	if err := vault.Save(); err != nil {
		return err
	}
	o.printf("%s holds %s; refer to it by {vault: %s}\n", v.file, name, name)
	return nil
}

// typedSecret reads one line of standard input, or asks where that is a terminal.
func (o *options) typedSecret(question string) (string, error) {
	if f, ok := o.in.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return site.AskTerminal(question)
		}
	}
	line, err := bufio.NewReader(io.LimitReader(o.in, 8192)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func (o *options) vaultList(v *vaultFlags) error {
	vault, err := v.open()
	if err != nil {
		return err
	}
	if o.output == "json" {
		return o.json(map[string]any{"names": orEmpty(vault.Names())})
	}
	for _, name := range vault.Names() {
		o.printf("%s\n", name)
	}
	return nil
}

func (o *options) vaultRemove(v *vaultFlags, name string) error {
	vault, err := v.open()
	if err != nil {
		return err
	}
	if !vault.Remove(name) {
		return fmt.Errorf("vault %s holds no %s", v.file, name)
	}
	return vault.Save()
}
