package ignition_test

import (
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/ignition"
)

func TestInstalledFromMedium(t *testing.T) {
	in := installedInput(t, fleet.SingleNode, "port", fleet.ProfileGeneral)
	without, err := ignition.Installed(in)
	if err != nil {
		t.Fatal(err)
	}
	m := ignition.Medium{
		Build: "00112233445566778899aabbccddeeff", Offset: 2048, ProgramAt: 4096,
		Program: agent(), Description: "{}\n",
	}
	in.Medium = &m
	with, err := ignition.Installed(in)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(without), "metalrise-prepared.service") || !strings.Contains(string(with), "metalrise-prepared.service") || !strings.Contains(string(with), "metalrise-report.service") {
		t.Error("the unit that finishes the install is where it must not be, or is not")
	}
	m.Build = ""
	if _, err := ignition.Installed(in); fleet.CodeOf(err) != fleet.CodeSiteInvalid {
		t.Errorf("without a build: %v", err)
	}
}
