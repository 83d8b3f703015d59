package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestMergeFollowsLinks replaces the file behind the links, and leaves the links.
func TestMergeFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.Mkdir(at("dotfiles"), 0o700), os.Mkdir(at("home"), 0o700),
		os.WriteFile(at("dotfiles/kube"), []byte("old"), 0o600),
		os.Symlink("../dotfiles/kube", at("home/config")), os.Symlink(at("home/config"), at("twice")),
		os.Symlink("../dotfiles/later", at("home/dangling")), os.Symlink("loop", at("loop")),
		os.Symlink("dotfiles", at("folder")), os.Symlink("../home/config", at("dotfiles/back")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for from, want := range map[string]string{
		"dotfiles/kube": "dotfiles/kube", "home/config": "dotfiles/kube", "twice": "dotfiles/kube",
		"home/dangling": "dotfiles/later", "absent": "absent", "folder/back": "dotfiles/kube",
	} {
		if got, err := behindLinks(at(from)); err != nil || got != at(want) {
			t.Errorf("%s leads to %s (%v), want %s", from, got, err, want)
		}
	}
	if got, err := behindLinks(at("loop")); err == nil {
		t.Errorf("a loop leads to %s", got)
	}
}

// TestMergeIntoLink follows links as the merge does, and replaces their target.
func TestMergeIntoLink(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{os.WriteFile(at("target"), nil, 0o600), os.Symlink("target", at("config"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	file, err := behindLinks(at("config"))
	if err == nil {
		err = replaceFile(file, []byte("new"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(at("config")); err != nil || to != "target" {
		t.Errorf("the link is %q now (%v)", to, err)
	}
	if b, err := os.ReadFile(at("target")); string(b) != "new" {
		t.Errorf("the target holds %q (%v)", b, err)
	}
}
