package bmctest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
	"metalrise.dev/lab/redfish"
)

func readingRows() []row {
	paged := redfish.Standard()
	paged.PageSize = 1
	disk0 := "/Drives/Disk0"
	return []row{
		{27, "collections in pages", "followed, with a guard against circles", []proof{
			{"pages of one", "", works(paged)}, {"other name of the link", "", works(paged, redfish.MembersNotPaged)},
			{"in circles", "", works(paged, redfish.NextLinkLoops)},
		}},
		{28, "a member that is 404", "costs that member, and is told", []proof{{"drive", "", seen(gone(disk0), func(f fleet.Facts) error {
			return errors.Join(want(serials(f) == "DSK1", "disks %q", serials(f)), problem(f, disk0))
		})}}},
		{29, "collections without Members, with null, or unreadable", "costs that collection; other places are asked", []proof{
			{"without", "", seen(edit("/EthernetInterfaces", func(b object) { delete(b, "Members") }), complete)},
			{"null", "", seen(edit("/EthernetInterfaces", func(b object) { b["Members"] = nil }), complete)},
			{"unreadable", "", seen(gone("/EthernetInterfaces"), complete)},
			{"nothing left", "", seen(edit("/Storage", func(b object) { b["Members"] = nil }), func(f fleet.Facts) error {
				return errors.Join(want(len(f.Disks) == 2, "disks %+v", f.Disks), problem(f, "/Storage"))
			})},
		}},
		{30, "members listed more than once", "told once", []proof{
			{"drive", "", seen(edit("/Storage1", func(b object) {
				list, _ := b["Drives"].([]object)
				if len(list) > 0 {
					b["Drives"] = append([]object{list[0], list[0], list[0]}, list...)
				}
			}), complete)},
			{"address", "", seen(edit("/EthernetInterfaces", func(b object) {
				if list, _ := b["Members"].([]object); len(list) > 0 {
					b["Members"] = append(append([]object{}, list...), list...)
				}
			}), complete)},
		}},
		{31, "values of the wrong type", "cost the field, or are read where they are clear", []proof{
			{"text for a number", "", seen(edit("/Systems/QUIRK001", func(b object) {
				b["MemorySummary"] = object{"TotalSystemMemoryGiB": "8"}
				b["ProcessorSummary"] = []any{"N/A"}
			}), complete)},
			{"no number", "", seen(edit(disk0, func(b object) { b["CapacityBytes"] = "N/A" }), func(f fleet.Facts) error {
				return errors.Join(complete(f), want(!f.Disks[0].SizeBytes.IsKnown(), "size %v", f.Disks[0].SizeBytes))
			})},
			{"number for a text", "", seen(edit("/Systems/QUIRK001", func(b object) { b["Model"], b["BiosVersion"] = 42, object{} }), func(f fleet.Facts) error {
				return errors.Join(complete(f), want(!f.BIOSVersion.IsKnown(), "BIOS version %v", f.BIOSVersion))
			})},
			{"object for a list", "", seen(edit(disk0, func(b object) {
				b["Identifiers"] = object{"DurableNameFormat": "NAA", "DurableName": "5000c500a0b1c2d3"}
			}), complete)},
		}},
		{32, "numbers out of range", "cost the field", []proof{{"negative VLAN and speed", "", seen(edit("/EthernetInterfaces/NIC1", func(b object) {
			b["VLAN"], b["SpeedMbps"] = object{"VLANId": -1}, -1
		}), func(f fleet.Facts) error {
			return errors.Join(complete(f), want(f.NICs[0].SpeedMbps.Or(1) > 0, "speed %v", f.NICs[0].SpeedMbps))
		})}}},
	}
}

// problem wants that the facts tell of trouble at this place.
func problem(f fleet.Facts, at string) error {
	for _, p := range f.Problems {
		if strings.Contains(p.Path, at) {
			return nil
		}
	}
	return fmt.Errorf("no word of %s in %+v", at, f.Problems)
}

func sizeRows() []row {
	disk0, disk1 := "/Drives/Disk0", "/Drives/Disk1"
	only := func(serial string) func(fleet.Facts) error {
		return func(f fleet.Facts) error { return want(serials(f) == serial, "disks %+v", f.Disks) }
	}
	return []row{
		{33, "no capacity, empty bays shown as drives", "a bay is no disk; a disk without a size has none", []proof{
			{"null", "", seen(edit(disk0, func(b object) { b["CapacityBytes"] = nil }), func(f fleet.Facts) error {
				return errors.Join(complete(f), want(!f.Disks[0].SizeBytes.IsKnown(), "size %v", f.Disks[0].SizeBytes))
			})},
			{"absent", "", seen(edit(disk0, func(b object) { b["Status"] = object{"State": "Absent"} }), only("DSK1"))},
			{"empty bay", "", seen(edit(disk1, func(b object) {
				clear(b)
				b["@odata.id"], b["Id"], b["Name"], b["Status"] = "/x", "Bay1", "Empty Bay", object{"State": "Enabled"}
			}), only("DSK0"))},
		}},
		{34, "capacity in the wrong unit", "an absurd size is unknown; MiB are read where they are named so", []proof{
			{"MiB called bytes", "", seen(edit(disk0, func(b object) { b["CapacityBytes"] = 64 << 10 }), func(f fleet.Facts) error {
				return errors.Join(complete(f), want(!f.Disks[0].SizeBytes.IsKnown(), "size %v", f.Disks[0].SizeBytes), problem(f, disk0))
			})},
			{"MiB only", "", seen(edit(disk0, func(b object) { delete(b, "CapacityBytes"); b["CapacityMiB"] = 64 << 10 }), func(f fleet.Facts) error {
				return errors.Join(complete(f), want(f.Disks[0].SizeBytes.Or(0) == 64<<30, "size %v", f.Disks[0].SizeBytes))
			})},
		}},
		{35, "virtual drives of the BMC shown as disks", "left out", []proof{{"virtual CD", "", seen(edit(disk1, func(b object) {
			b["Model"], b["Manufacturer"], b["Protocol"], b["SerialNumber"], b["CapacityBytes"] = "Virtual CDROM", "AMI", "USB", "AAAABBBB0001", 2048
		}), only("DSK0"))}}},
		{36, "disks in SimpleStorage or a maker's tree only", "asked where Storage has none", []proof{
			{"simple storage", "", seen(gone("/Storage"), func(f fleet.Facts) error {
				return want(len(f.Disks) == 2 && f.Disks[0].SizeBytes.IsKnown(), "disks %+v", f.Disks)
			})},
			{"smart storage", "", seen(smartStorage, only("HPD1"))},
		}},
		{37, "no EthernetInterfaces", "adapters, functions, ports and boot options are asked", []proof{
			{"functions", "", seen(gone("/EthernetInterfaces"), complete)},
			{"ports", "", seen(func(path string, b object) object {
				return gone("/NetworkDeviceFunctions")(path, gone("/EthernetInterfaces")(path, b))
			}, complete)},
			{"boot options", "", seen(bootOptions, func(f fleet.Facts) error {
				return want(strings.HasPrefix(macs(f), "52:54:00:00:00:01"), "ports %q", macs(f))
			})},
		}},
		{38, "addresses that are none, or not of an Ethernet port", "left out", []proof{{"placeholders", "", seen(oddPorts, func(f fleet.Facts) error {
			return want(macs(f) == "52:54:00:00:00:02", "ports %q", macs(f))
		})}}},
		{39, "port ids that collide between adapters", "ports are told apart by address", []proof{{"same ids", "", seen(edit("/NIC2", func(b object) { b["Id"] = "NIC1" }), complete)}}},
		{40, "blank, padded and placeholder serials", "cleaned; placeholders are unknown", []proof{
			{"padded", "", seen(edit("/Systems/QUIRK001", func(b object) { b["SerialNumber"] = "  QUIRK001   " }), complete)},
			{"placeholder", "", seen(edit("/Systems/QUIRK001", func(b object) { b["SerialNumber"], b["SKU"] = "Default string", "...." }), func(f fleet.Facts) error {
				return errors.Join(want(f.Identity.Serial == "" && f.Identity.UUID != "", "identity %+v", f.Identity), want(f.SKU.Or("") == "", "SKU %v", f.SKU))
			})},
		}},
		{41, "processor summaries that are wrong", "processors that are there are counted", []proof{{"summary", "", seen(edit("/Systems/QUIRK001", func(b object) {
			b["ProcessorSummary"] = object{"Count": 8, "CoreCount": 999, "LogicalProcessorCount": 1}
		}), complete)}, {"absent socket", "", seen(absentSocket, func(f fleet.Facts) error {
			return errors.Join(complete(f), want(f.CPU.Sockets.Or(0) == 1, "sockets %v", f.CPU.Sockets))
		})}}},
		{42, "addresses relative, in other case or with a slash at the end", "asked as given", []proof{
			{"slash at the end", "", seen(links(func(s string) string { return s + "/" }), complete)},
			{"other case", "", seen(otherCase, func(f fleet.Facts) error {
				return errors.Join(complete(f), want(f.CPU.Virtualization.Or(false), "virtualization %v", f.CPU.Virtualization))
			})},
			{"relative", "", seen(links(func(s string) string { return strings.TrimPrefix(s, "/redfish/v1/") }), complete)},
		}},
		{43, "no Links.ManagedBy", "managers are asked whom they serve", []proof{{"missing", "", worksAs(redfish.Embedded(), func(c *redfish.Config) {
			c.Reshape = edit("/Systems/System.Embedded.1", func(b object) { b["Links"] = object{} })
		})}}},
		{44, "errors without a list of messages, or as plain text", "told as far as they go", []proof{
			{"one object", "", toldError(redfish.MessageWithoutList, "system that")}, {"plain text", "", toldError(redfish.PlainErrors, "could not be done")},
			{"error with a status of success", "", annotated},
		}},
		{45, "versions that look old or are none", "nothing depends on a version", []proof{
			{"1.15", "", versioned("1.15.0")}, {"1.0", "", versioned("1.0.0")}, {"no version", "", versioned("unknown")},
		}},
	}
}

// smartStorage moves the disks into the tree of HPE's older controllers.
func smartStorage(path string, body object) object {
	const top = "/redfish/v1/Systems/QUIRK001/SmartStorage"
	switch path {
	case "/redfish/v1/Systems/QUIRK001":
		body["Oem"] = object{"Hpe": object{"Links": object{"SmartStorage": object{"@odata.id": top}}}}
	case top:
		return object{"@odata.id": top, "Links": object{"ArrayControllers": object{"@odata.id": top + "/ArrayControllers"}}}
	case top + "/ArrayControllers":
		return object{"Members": []object{{"@odata.id": top + "/ArrayControllers/0"}}}
	case top + "/ArrayControllers/0":
		return object{"@odata.id": path, "Id": "0", "Links": object{"PhysicalDrives": object{"@odata.id": path + "/DiskDrives"}}}
	case top + "/ArrayControllers/0/DiskDrives":
		return object{"Members": []object{{"@odata.id": path + "/0"}}}
	case top + "/ArrayControllers/0/DiskDrives/0":
		return object{"@odata.id": path, "SerialNumber": "HPD1", "Model": "EG0600", "CapacityMiB": 572325, "InterfaceType": "SAS", "MediaType": "HDD"}
	}
	if strings.HasSuffix(path, "/Storage") || strings.HasSuffix(path, "/SimpleStorage") {
		return nil
	}
	return body
}

// bootOptions leaves the addresses in the boot options only.
func bootOptions(path string, body object) object {
	const at = "/redfish/v1/Systems/QUIRK001/BootOptions"
	switch path {
	case "/redfish/v1/Systems/QUIRK001":
		body["Boot"].(object)["BootOptions"] = object{"@odata.id": at}
	case at:
		return object{"@odata.id": at, "Members": []object{{"@odata.id": at + "/1"}}}
	case at + "/1":
		return object{"@odata.id": path, "Id": "1", "BootOptionReference": "Boot0001",
			"UefiDevicePath": "PciRoot(0x0)/Pci(0x1,0x0)/Pci(0x0,0x0)/MAC(525400000001,0x1)/IPv4(0.0.0.0)"}
	}
	if strings.HasSuffix(path, "/EthernetInterfaces") || strings.Contains(path, "/NetworkAdapters") || strings.HasSuffix(path, "/NetworkInterfaces") {
		return nil
	}
	return body
}

// oddPorts makes the first port all that a port of a server should not be.
func oddPorts(path string, body object) object {
	if strings.Contains(path, "/NetworkAdapters") || strings.HasSuffix(path, "/NetworkInterfaces") {
		return nil
	}
	const base = "/redfish/v1/Systems/QUIRK001/EthernetInterfaces"
	odd := map[string]object{
		base + "/empty": {"MACAddress": ""}, base + "/text": {"MACAddress": "Not Available"}, base + "/zero": {"MACAddress": "00:00:00:00:00:00"},
		base + "/usb": {"MACAddress": "de:ad:be:ef:00:01", "UefiDevicePath": "PciRoot(0x0)/Pci(0x14,0x0)/USB(0x3,0x0)/MAC(DEADBEEF0001,0x1)"},
		base + "/ib":  {"MACAddress": "80:00:02:08:fe:80:00:00:00:00:00:00:f4:52:14:03:00:01:02:03"},
	}
	if path == base && body != nil {
		list := body["Members"].([]object)
		for at := range odd {
			list = append(list, object{"@odata.id": at})
		}
		body["Members"] = list
	}
	if one, ok := odd[path]; ok {
		one["@odata.id"], one["Id"] = path, path[len(base)+1:]
		return one
	}
	if path == base+"/NIC1" {
		body["MACAddress"], body["PermanentMACAddress"] = "--", nil
	}
	if path == base+"/NIC2" {
		body["MACAddress"] = "52-54-00-00-00-02" // dashes are an address all the same
	}
	return body
}

func absentSocket(path string, body object) object {
	const base = "/redfish/v1/Systems/QUIRK001/Processors"
	if path == base {
		body["Members"] = []object{{"@odata.id": base + "/CPU1"}, {"@odata.id": base + "/CPU2"}}
	}
	if path == base+"/CPU2" {
		return object{"@odata.id": path, "Id": "CPU2", "ProcessorType": "CPU", "TotalCores": nil, "Status": object{"State": "Absent"}}
	}
	return body
}

// links rewrites the addresses in Members and of the system's collections.
func links(change func(string) string) func(string, object) object {
	return func(path string, body object) object {
		if body == nil {
			return nil
		}
		for key, v := range body {
			switch v := v.(type) {
			case object:
				if at, isLink := v["@odata.id"].(string); isLink && len(v) == 1 && path != "/redfish/v1" {
					body[key] = object{"@odata.id": change(at)}
				}
			case []object:
				if key != "Members" {
					continue
				}
				for i, m := range v {
					if at, isLink := m["@odata.id"].(string); isLink && len(m) == 1 {
						v[i] = object{"@odata.id": change(at)}
					}
				}
			}
		}
		return body
	}
}

// otherCase names the BIOS by an address that only exists in this spelling.
func otherCase(path string, body object) object {
	const odd = "/redfish/v1/systems/QUIRK001/bios"
	switch path {
	case "/redfish/v1/Systems/QUIRK001":
		body["Bios"] = object{"@odata.id": odd}
	case odd:
		return object{"@odata.id": odd, "Attributes": object{"ProcVirtualization": "Enabled"}}
	case "/redfish/v1/Systems/QUIRK001/Bios":
		return nil
	}
	return body
}

// toldError asks for a system that is not there.
func toldError(q redfish.Quirk, words string) func(*testing.T) error {
	return func(t *testing.T) error {
		r := newRack(t, redfish.Standard().With(q), nil)
		return r.with(t, func(ctx context.Context, s *bmc.Session) error {
			if err := r.lab.SetFault(redfish.Fault{Kind: redfish.Answer, Method: "PATCH", Path: "*", Status: 400,
				Body: map[redfish.Quirk]string{
					redfish.MessageWithoutList: `{"error":{"@Message.ExtendedInfo":{"MessageId":"Base.1.0.GeneralError","Message":"It is a system that cannot do this."}}}`,
					redfish.PlainErrors:        "The request could not be done.",
				}[q]}); err != nil {
				return err
			}
			return refused(s.BootOnce(ctx, r.system(), bmc.Cd), fleet.CodeBMCRejected, words)
		})
	}
}

func annotated(t *testing.T) error {
	r := newRack(t, redfish.Standard(), nil)
	return r.with(t, func(ctx context.Context, s *bmc.Session) error {
		if err := r.lab.SetFault(redfish.Fault{Kind: redfish.Behave, Quirk: redfish.AnnotatedErrorSuccess, Nth: 4, Times: 1}); err != nil {
			return err
		}
		f, err := s.Inspect(ctx, r.system())
		if err != nil {
			return err
		}
		return want(len(f.Problems) > 0, "an error under a status of success was not noticed")
	})
}

func versioned(v string) func(*testing.T) error {
	return worksAs(redfish.Standard(), func(c *redfish.Config) { c.Reshape = edit("/redfish/v1", func(b object) { b["RedfishVersion"] = v }) })
}
