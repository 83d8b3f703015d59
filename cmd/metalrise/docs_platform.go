package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// platformPage shows the catalogue of the VM platform.
func platformPage() string {
	var b strings.Builder
	b.WriteString("# Components of the VM platform\n\n" + madeFromCode)
	b.WriteString("What metalrise can install on a cluster once its nodes are ready. The default set comes without asking; `platform.components` in the\n" +
		"[site file](site.md) adds others, `platform.without` leaves some out. Manifests and container images come from the nodes' software, by digest:\n" +
		"what the software lacks is not installed, and the plan says so.\n\n" +
		"*Unproven* means that no test of metalrise has seen the component work. Its manifests are applied, watched and removed by the same code as\n" +
		"those of a proven one, and that is all that is known.\n\n" +
		"*Removed* says what the code does that takes a component away. No command calls it yet: a component that a later plan leaves out stays in\n" +
		"the cluster.\n\n")
	b.WriteString("| component | what it is for | default | proven | images, about |\n|---|---|---|---|---|\n")
	for _, e := range fleet.Catalogue() {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s | %s | %s |\n", e.Name, e.Name, e.About, mark(e.Default), mark(e.Unproven == ""), imagesOf(e))
	}
	for _, e := range fleet.Catalogue() {
		platformEntry(&b, e)
	}
	b.WriteString("\n## Versions that fit\n\nThe plan looks versions up here. What is not listed is unknown: it is installed, and nothing is promised.\n\n" +
		"| component | its version | Kubernetes | fits | why | known from |\n|---|---|---|---|---|---|\n")
	for _, f := range fleet.VersionMatrix() {
		from := "its makers"
		if f.Seen {
			from = "metalrise's tests"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", f.Component, f.Versions, f.Kubernetes, verdictWords(f), f.Text, from)
	}
	return b.String()
}

func platformEntry(b *strings.Builder, e fleet.CatalogueEntry) {
	fmt.Fprintf(b, "\n## %s\n\n**%s.** %s\n\n", e.Name, e.Title, e.About)
	if e.Unproven != "" {
		fmt.Fprintf(b, "> **Unproven:** %s.\n\n", e.Unproven)
	}
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(b, "- %s: %s\n", name, text)
		}
	}
	line("Versions", strings.Join(e.Versions, ", "))
	if e.Own {
		line("Made of", "objects that metalrise writes itself")
	}
	var needs []string
	for _, n := range e.Needs {
		needs = append(needs, fmt.Sprintf("[`%s`](#%s)", n, n))
	}
	line("Needs", strings.Join(needs, ", "))
	line("Asks of the site", e.Asks)
	line("Gives", strings.Join(e.Gives, ", "))
	line("Ready when", e.Ready)
	line("Proven by", e.Proof)
	line("Removed", e.Remove)
}

func mark(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func imagesOf(e fleet.CatalogueEntry) string {
	if e.Images == 0 {
		return "none"
	}
	return fmt.Sprintf("%d, %d MiB", e.Images, e.Bytes>>20)
}

func verdictWords(f fleet.Fit) string {
	switch f.Verdict {
	case fleet.FitYes:
		return "yes"
	case fleet.FitNo:
		return "no"
	case fleet.FitGated:
		var gates []string
		for _, name := range slices.Sorted(maps.Keys(f.Gates)) {
			gates = append(gates, fmt.Sprintf("`%s=%v`", name, f.Gates[name]))
		}
		return "with " + strings.Join(gates, ", ")
	}
	return "unknown"
}
