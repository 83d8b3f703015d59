package container

import (
	"os"
	"testing"
	"time"

	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/machine/machinetest"
)

func TestMain(m *testing.M) {
	MaybeInit()
	os.Exit(m.Run())
}

func TestConformance(t *testing.T) {
	machinetest.Require(t)
	image, ignition := realImage(t)
	machinetest.Run(t, func(t *testing.T, spec machine.Spec) machine.Hardware {
		hw, err := New(spec, ignition)
		if err != nil {
			t.Fatal(err)
		}
		return hw
	}, image)
}

func realImage(t *testing.T) (machinetest.Image, string) {
	return machinetest.Image{ISO: "/tmp/cscratch/test.iso", Disk: "/tmp/cscratch/test.raw", Patience: 40 * time.Second}, "/tmp/cscratch/ignition"
}
