package bmc

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	goipmi "github.com/bougou/go-ipmi"

	"metalrise.dev/fleet"
)

// Look reads identity, power and boot device as they are now.
func (s *IPMI) Look(ctx context.Context, _ string) (Sight, error) {
	now, err := s.powerNow(ctx)
	if err != nil {
		return Sight{}, s.wrap("look at", err)
	}
	var seen problems
	id, _ := s.identity(ctx, &seen)
	sight := Sight{Identity: id, Power: fleet.Known(now), BootOverride: BootOverride{Enabled: "Disabled", Target: "None"}}
	flags, err := s.bootFlags(ctx)
	if err != nil {
		return Sight{}, s.wrap("look at", err)
	}
	if target := bootWord(flags.BootDeviceSelector); target != "None" {
		sight.BootOverride = BootOverride{Target: target, Mode: "Legacy"} // without the mark "valid" it is not sure to happen
		switch {
		case flags.Persist:
			sight.BootOverride.Enabled = "Continuous"
		case flags.BootFlagsValid:
			sight.BootOverride.Enabled = "Once"
		}
		if flags.BIOSBootType == goipmi.BIOSBootTypeEFI {
			sight.BootOverride.Mode = "UEFI"
		}
	}
	return sight, nil
}

// bootWord gives Redfish's word for a boot device.
func bootWord(d goipmi.BootDeviceSelector) string {
	switch d {
	case goipmi.BootDeviceSelectorNoOverride:
		return "None"
	case goipmi.BootDeviceSelectorForcePXE:
		return "Pxe"
	case goipmi.BootDeviceSelectorForceHardDrive:
		return "Hdd"
	case goipmi.BootDeviceSelectorForceCDROM, goipmi.BootDeviceSelectorForceRemoteCDROM:
		return "Cd"
	case goipmi.BootDeviceSelectorForceBIOSSetup:
		return "BiosSetup"
	}
	return "Other"
}

// Systems lists the one system that stands behind a BMC with IPMI.
func (s *IPMI) Systems(ctx context.Context) ([]SystemRef, error) {
	id, _ := s.identity(ctx, nil)
	return []SystemRef{{URI: ipmiSystem, Kind: IsServer, Why: "IPMI stands for one server", Identity: id}}, nil
}

// Inspect reads what IPMI knows of a server: identity, power, maker, model and
// the BMC's firmware. All else is unknown.
func (s *IPMI) Inspect(ctx context.Context, _ string) (fleet.Facts, error) {
	now, err := s.powerNow(ctx)
	if err != nil {
		return fleet.Facts{}, s.wrap("inspect", err)
	}
	var seen problems
	f := fleet.Facts{
		Source: fleet.SeenByBMC, At: time.Now().UTC(), SystemURI: ipmiSystem, Power: fleet.Known(now),
		ResetTypes: []string{"On", "ForceOff", "GracefulShutdown", "ForceRestart", "PowerCycle"}, BootTargets: []string{"Pxe", "Hdd", "Cd"},
		Sources: map[string]string{"system": ipmiScheme + "chassis-status", "bmcFirmware": ipmiScheme + "device-id", "model": ipmiScheme + "fru/0"},
	}
	var product *goipmi.FRUProductInfoArea
	f.Identity, product = s.identity(ctx, &seen)
	if product != nil {
		f.Manufacturer, f.Model, f.SKU = known(product.Manufacturer), known(product.Name), known(product.PartModel)
	}
	if err := s.exchange("read the device id", false, func() error {
		d, err := s.client.GetDeviceID(ctx)
		if err == nil {
			// The minor revision is two decimal digits in one byte (table 20-2).
			f.BMCFirmware = fleet.Known(fmt.Sprintf("%d.%02x", d.MajorFirmwareRevision, d.MinorFirmwareRevision))
		}
		return err
	}); err != nil {
		seen.add(ipmiScheme+"device-id", "%v", err)
	}
	for _, id := range s.weak {
		seen.add(ipmiScheme+"cipher-suites", "the BMC offers cipher suite %d to everyone on its network: switch it off", id)
	}
	f.Problems = seen.list
	return f, nil
}

// identity reads the system's GUID, in the order of bytes that SMBIOS has (most
// BMCs copy it from there), and the serial number of the product.
func (s *IPMI) identity(ctx context.Context, seen *problems) (fleet.Identity, *goipmi.FRUProductInfoArea) {
	uuid, serial := "", ""
	if err := s.exchange("read the system's GUID", false, func() error {
		r, err := s.client.GetSystemGUID(ctx)
		if err == nil {
			uuid = guidText(r.GUID)
		}
		return err
	}); err != nil {
		seen.add(ipmiScheme+"system-guid", "%v", err)
	}
	var product *goipmi.FRUProductInfoArea
	if err := s.exchange("read the product's record", false, func() error {
		fru, err := s.client.GetFRU(ctx, 0, "")
		if err == nil {
			product = fru.ProductInfoArea
		}
		return err
	}); err != nil {
		seen.add(ipmiScheme+"fru/0", "%v", err)
	}
	if product != nil {
		serial = known(product.SerialNumber).Or("")
	}
	return fleet.NewIdentity(uuid, serial), product
}

// guidText writes a GUID as SMBIOS does: the first three groups with the least
// byte first (DSP0134, 7.2.1).
func guidText(b [16]byte) string {
	for _, g := range [][2]int{{0, 3}, {4, 5}, {6, 7}} {
		for i, j := g[0], g[1]; i < j; i, j = i+1, j-1 {
			b[i], b[j] = b[j], b[i]
		}
	}
	return hex.EncodeToString(b[:])
}

func known(field []byte) fleet.Maybe[string] {
	if s := clean(strings.TrimRight(string(field), "\x00")); s != "" && !isNoValue(s) {
		return fleet.Known(s)
	}
	return fleet.Maybe[string]{}
}
