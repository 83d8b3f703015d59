package main

import (
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"strings"

	"metalrise.dev/fleet"
)

// sshKeys takes keys apart that were typed or pasted one after the other, or
// reads them from the file that text names.
func sshKeys(text string) ([]string, error) {
	var out []string
	begins := func(s string) bool {
		return strings.HasPrefix(s, "ssh-") || strings.HasPrefix(s, "ecdsa-") || strings.HasPrefix(s, "sk-")
	}
	if begins(text) {
		for _, word := range strings.Fields(text) {
			if begins(word) {
				out = append(out, word)
			} else {
				out[len(out)-1] += " " + word
			}
		}
		return out, nil
	}
	f, err := os.Open(atHome(text))
	if err != nil {
		return nil, fleet.NewFault(fleet.CodeSiteInvalid, fleet.Invalid, err, "neither an SSH key nor a file that holds one")
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return nil, fleet.NewFault(fleet.CodeSiteInvalid, fleet.Invalid, err, "SSH keys")
	}
	if strings.Contains(string(b), "PRIVATE KEY") {
		return nil, fleet.NewFault(fleet.CodeSiteInvalid, fleet.Invalid, nil, "%s holds a private key; name the public one, which ends in .pub", text)
	}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out, nil
}

// authorities reads the certificates of a PEM file, each as it stands there.
func authorities(path string) ([]string, error) {
	f, err := os.Open(atHome(path))
	if err != nil {
		return nil, fleet.NewFault(fleet.CodeSiteInvalid, fleet.Invalid, err, "certificates")
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, fleet.NewFault(fleet.CodeSiteInvalid, fleet.Invalid, err, "certificates")
	}
	var out []string
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fleet.NewFault(fleet.CodeSiteInvalid, fleet.Invalid, nil, "%s holds a %s; only certificates belong into the site file", path, strings.ToLower(block.Type))
		}
		out = append(out, string(pem.EncodeToMemory(block)))
	}
	if len(out) == 0 {
		return nil, fleet.NewFault(fleet.CodeSiteInvalid, fleet.Invalid, nil, "%s holds no certificate in PEM form", path)
	}
	return out, nil
}

func atHome(path string) string {
	rest, ok := strings.CutPrefix(path, "~/")
	if home, err := os.UserHomeDir(); ok && err == nil {
		return filepath.Join(home, rest)
	}
	return path
}
