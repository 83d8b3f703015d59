package redfish

import (
	"crypto/sha256"
	"fmt"
	"net"
	"strconv"
	"time"

	"metalrise.dev/lab/machine"
)

// systemBody is the ComputerSystem. Called with b.mu held.
func (b *BMC) systemBody() object {
	s, at := b.cfg.Spec, b.systemPath()
	health := ok()
	if b.last.err != nil {
		health["Health"] = "Critical"
	}
	out := object{
		"@odata.id": at, "@odata.type": "#ComputerSystem.v1_22_1.ComputerSystem",
		"Id": b.systemID, "Name": "System", "SystemType": "Physical",
		"Manufacturer": b.vendor(), "Model": s.Model, "SerialNumber": s.Serial, "SKU": s.Serial,
		"PartNumber": partNumber(s), "UUID": s.UUID, "AssetTag": b.assetTag, "HostName": "",
		"BiosVersion": "2.3.1", "PowerState": b.shownPower(), "Status": health,
		"ProcessorSummary": object{"Count": 1, "CoreCount": s.CPUs, "LogicalProcessorCount": s.CPUs, "Model": processorModel, "Status": ok()},
		"MemorySummary":    object{"TotalSystemMemoryGiB": float64(s.MemoryMiB) / 1024, "MemoryMirroring": "None", "Status": ok()},
		"Boot":             b.bootBody(),
		"BootProgress":     object{"LastState": b.progress.state, "LastStateTime": b.progress.since.Format(time.RFC3339)},
		"TrustedModules":   []object{},
		"Actions":          object{"#ComputerSystem.Reset": b.resetBody(at)},
		"Links":            object{"Chassis": links(b.chassisPath()), "ManagedBy": links(b.managerPath())},
	}
	if way := b.cfg.Personality.BootSettings; way != "" {
		out["@Redfish.Settings"] = object{"@odata.type": "#Settings.v1_3_5.Settings", "SettingsObject": link(at + way), "SupportedApplyTimes": []string{"OnReset"}}
	}
	if b.cfg.Personality.Media == MediaByFTS {
		out["Actions"].(object)["Oem"] = b.ftsBody()
		out["Oem"] = object{"ts_fujitsu": object{"VirtualMedia": link(b.ftsConfigPath())}}
	}
	for _, sub := range []string{"Processors", "Memory", "EthernetInterfaces", "NetworkInterfaces", "Storage", "SimpleStorage", "Bios"} {
		out[sub] = link(at + "/" + sub)
	}
	if s.Firmware == "uefi" {
		out["SecureBoot"] = link(at + "/SecureBoot")
	}
	if b.cfg.Personality.MediaPlace != UnderManager {
		out["VirtualMedia"] = link(at + "/VirtualMedia")
	}
	return out
}

const processorModel = "Lab x86-64 Processor"

func partNumber(s machine.Spec) string {
	sum := sha256.Sum256([]byte(s.Vendor + s.Model))
	return fmt.Sprintf("P%X", sum[:3])
}

func (b *BMC) processorTree(t map[string]node, at string) {
	s := b.cfg.Spec
	t[at+"/Processors"] = fixed("ProcessorCollection.ProcessorCollection", at+"/Processors", "Processors", []string{at + "/Processors/CPU1"})
	t[at+"/Processors/CPU1"] = static("Processor.v1_20_0.Processor", at+"/Processors/CPU1", "CPU1", "Processor", func() object {
		return object{"Socket": "CPU 1", "ProcessorType": "CPU", "ProcessorArchitecture": "x86", "InstructionSet": "x86-64",
			"Manufacturer": "Lab", "Model": processorModel, "TotalCores": s.CPUs, "TotalEnabledCores": s.CPUs, "TotalThreads": s.CPUs, "Status": ok()}
	})
	t[at+"/Memory"] = fixed("MemoryCollection.MemoryCollection", at+"/Memory", "Memory", []string{at + "/Memory/DIMM1"})
	t[at+"/Memory/DIMM1"] = static("Memory.v1_20_0.Memory", at+"/Memory/DIMM1", "DIMM1", "Memory Module", func() object {
		return object{"MemoryType": "DRAM", "MemoryDeviceType": "DDR4", "CapacityMiB": s.MemoryMiB, "DeviceLocator": "DIMM 1", "Status": ok()}
	})
}

func nicID(i int) string { return "NIC" + strconv.Itoa(i+1) }

// linkOf tells the link of a NIC as Redfish and as a network port name it.
func linkOf(n machine.NIC) (ethernet, port string) {
	if n.Bridge == "" {
		return "LinkDown", "Down"
	}
	return "LinkUp", "Up"
}

func (b *BMC) interfaceTree(t map[string]node, at string) {
	base := at + "/EthernetInterfaces"
	var all []string
	for i, n := range b.cfg.Spec.NICs {
		one := base + "/" + nicID(i)
		all = append(all, one)
		state, _ := linkOf(n)
		t[one] = static("EthernetInterface.v1_12_2.EthernetInterface", one, nicID(i), "Ethernet Interface "+strconv.Itoa(i+1), func() object {
			return object{"MACAddress": n.MAC, "PermanentMACAddress": n.MAC, "SpeedMbps": 10000, "FullDuplex": true,
				"InterfaceEnabled": true, "LinkStatus": state, "Status": ok(),
				"Links": object{"NetworkDeviceFunctions": links(b.adapterPath() + "/NetworkDeviceFunctions/" + nicID(i))}}
		})
	}
	t[base] = fixed("EthernetInterfaceCollection.EthernetInterfaceCollection", base, "Ethernet Interfaces", all)
	nets := at + "/NetworkInterfaces"
	t[nets] = fixed("NetworkInterfaceCollection.NetworkInterfaceCollection", nets, "Network Interfaces", []string{nets + "/Adapter1"})
	t[nets+"/Adapter1"] = static("NetworkInterface.v1_2_2.NetworkInterface", nets+"/Adapter1", "Adapter1", "Network Interface", func() object {
		return object{"Status": ok(), "Links": object{"NetworkAdapter": link(b.adapterPath())},
			"Ports": link(b.adapterPath() + "/Ports"), "NetworkDeviceFunctions": link(b.adapterPath() + "/NetworkDeviceFunctions")}
	})
}

func (b *BMC) adapterPath() string { return b.chassisPath() + "/NetworkAdapters/Adapter1" }

func (b *BMC) chassisTree(t map[string]node) {
	base, at, s := pathRoot+"/Chassis", b.chassisPath(), b.cfg.Spec
	t[base] = fixed("ChassisCollection.ChassisCollection", base, "Chassis", []string{at})
	t[at] = static("Chassis.v1_25_1.Chassis", at, b.cfg.Personality.ChassisID, "Chassis", func() object {
		power := b.power
		if power == PoweringOff {
			power = PowerOn // still there until it is off
		}
		return object{"ChassisType": "RackMount", "Manufacturer": b.vendor(), "Model": s.Model, "SerialNumber": s.Serial, "SKU": s.Serial,
			"PowerState": power, "Status": ok(), "NetworkAdapters": link(at + "/NetworkAdapters"),
			"Links": object{"ComputerSystems": links(b.systemPath()), "ManagedBy": links(b.managerPath())}}
	})
	t[at+"/NetworkAdapters"] = fixed("NetworkAdapterCollection.NetworkAdapterCollection", at+"/NetworkAdapters", "Network Adapters", []string{b.adapterPath()})
	b.adapterTree(t, b.adapterPath())
}

func (b *BMC) adapterTree(t map[string]node, at string) {
	nics := b.cfg.Spec.NICs
	var ports, functions []string
	for i, n := range nics {
		port, function := at+"/Ports/"+nicID(i), at+"/NetworkDeviceFunctions/"+nicID(i)
		ports, functions = append(ports, port), append(functions, function)
		_, state := linkOf(n)
		t[port] = static("Port.v1_13_0.Port", port, nicID(i), "Port "+strconv.Itoa(i+1), func() object {
			return object{"PortId": strconv.Itoa(i + 1), "PortProtocol": "Ethernet", "LinkStatus": "Link" + state, "LinkState": "Enabled",
				"CurrentSpeedGbps": 10, "Ethernet": object{"AssociatedMACAddresses": []string{n.MAC}}, "Status": ok()}
		})
		t[function] = static("NetworkDeviceFunction.v1_10_0.NetworkDeviceFunction", function, nicID(i), "Function "+strconv.Itoa(i+1), func() object {
			return object{"NetDevFuncType": "Ethernet", "DeviceEnabled": true, "Status": ok(),
				"Ethernet": object{"MACAddress": n.MAC, "PermanentMACAddress": n.MAC}, "AssignablePhysicalNetworkPorts": links(port)}
		})
	}
	t[at] = static("NetworkAdapter.v1_11_0.NetworkAdapter", at, "Adapter1", "Network Adapter", func() object {
		return object{"Manufacturer": "Lab", "Model": "Lab Ethernet Adapter", "Status": ok(), "Ports": link(at + "/Ports"),
			"NetworkDeviceFunctions": link(at + "/NetworkDeviceFunctions"),
			"Controllers":            []object{{"ControllerCapabilities": object{"NetworkPortCount": len(nics)}, "Links": object{"Ports": links(ports...)}}}}
	})
	t[at+"/Ports"] = fixed("PortCollection.PortCollection", at+"/Ports", "Ports", ports)
	t[at+"/NetworkDeviceFunctions"] = fixed("NetworkDeviceFunctionCollection.NetworkDeviceFunctionCollection", at+"/NetworkDeviceFunctions", "Functions", functions)
}

func (b *BMC) storageTree(t map[string]node) {
	system := b.systemPath()
	base := system + "/Storage"
	at := base + "/Storage1"
	var drives []string
	for i := range b.cfg.Spec.Disks {
		one := at + "/Drives/Disk" + strconv.Itoa(i)
		drives = append(drives, one)
		t[one] = static("Drive.v1_20_0.Drive", one, "Disk"+strconv.Itoa(i), "Disk in bay "+strconv.Itoa(i), func() object {
			d := b.cfg.Spec.Disks[i] // the one that is in the bay now
			media, rotation := "SSD", 0
			if d.Rotating {
				media, rotation = "HDD", 7200
			}
			return object{"Manufacturer": "Lab", "Model": d.Model, "SerialNumber": d.Serial, "CapacityBytes": d.SizeBytes, "MediaType": media,
				"RotationSpeedRPM": rotation, "Protocol": "SAS", "BlockSizeBytes": 512, "FailurePredicted": false, "Status": ok(),
				"Identifiers":      []object{{"DurableNameFormat": "NAA", "DurableName": d.WWN}},
				"PhysicalLocation": object{"PartLocation": object{"LocationType": "Bay", "LocationOrdinalValue": i, "ServiceLabel": "Bay " + strconv.Itoa(i)}},
				"Links":            object{"Chassis": link(b.chassisPath())}}
		})
	}
	t[base] = fixed("StorageCollection.StorageCollection", base, "Storage", []string{at})
	t[at] = static("Storage.v1_17_0.Storage", at, "Storage1", "Storage", func() object {
		return object{"Drives": links(drives...), "Drives@odata.count": len(drives), "Volumes": link(at + "/Volumes"), "Status": ok(),
			"StorageControllers": []object{{"@odata.id": at + "#/StorageControllers/0", "MemberId": "0", "Name": "HBA", "Model": "Lab HBA",
				"SupportedDeviceProtocols": []string{"SAS"}, "Status": ok()}}}
	})
	t[at+"/Volumes"] = fixed("VolumeCollection.VolumeCollection", at+"/Volumes", "Volumes", nil)
	simple := system + "/SimpleStorage"
	t[simple] = fixed("SimpleStorageCollection.SimpleStorageCollection", simple, "Simple Storage", []string{simple + "/Storage1"})
	t[simple+"/Storage1"] = static("SimpleStorage.v1_3_2.SimpleStorage", simple+"/Storage1", "Storage1", "HBA", func() object {
		devices := []object{}
		for _, d := range b.cfg.Spec.Disks {
			devices = append(devices, object{"Name": d.Name, "Manufacturer": "Lab", "Model": d.Model, "CapacityBytes": d.SizeBytes, "Status": ok()})
		}
		return object{"Devices": devices, "Status": ok(), "Links": object{"Chassis": link(b.chassisPath()), "Storage": link(at)}}
	})
}

// managerUUID is a UUID of the BMC itself, always the same for one machine
// (RFC 9562, version 8: hash of the system's UUID).
func (b *BMC) managerUUID() string {
	s := sha256.Sum256([]byte("bmc of " + b.cfg.Spec.UUID))
	s[6], s[8] = s[6]&0x0f|0x80, s[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", s[:4], s[4:6], s[6:8], s[8:10], s[10:16])
}

func (b *BMC) managerTree(t map[string]node) {
	base, at, p := pathRoot+"/Managers", b.managerPath(), b.cfg.Personality
	t[base] = fixed("ManagerCollection.ManagerCollection", base, "Managers", []string{at})
	t[at] = static("Manager.v1_19_1.Manager", at, p.ManagerID, "Manager", func() object {
		out := object{"ManagerType": "BMC", "Manufacturer": b.vendor(), "Model": p.Product, "FirmwareVersion": p.Firmware,
			"UUID": b.managerUUID(), "PowerState": PowerOn, "Status": ok(), "EthernetInterfaces": link(at + "/EthernetInterfaces"),
			"DateTime": time.Now().UTC().Truncate(time.Minute).Format(time.RFC3339), "DateTimeLocalOffset": "+00:00",
			"Links": object{"ManagerForServers": links(b.systemPath()), "ManagerForChassis": links(b.chassisPath())}}
		if p.MediaPlace != UnderSystem {
			out["VirtualMedia"] = link(at + "/VirtualMedia")
		}
		return out
	})
	nic := at + "/EthernetInterfaces/eth0"
	t[at+"/EthernetInterfaces"] = fixed("EthernetInterfaceCollection.EthernetInterfaceCollection", at+"/EthernetInterfaces", "Ethernet Interfaces", []string{nic})
	t[nic] = static("EthernetInterface.v1_12_2.EthernetInterface", nic, "eth0", "BMC network", func() object {
		sum := sha256.Sum256([]byte("bmc mac of " + b.cfg.Spec.UUID))
		sum[0] = 0x02 // locally administered
		mac := net.HardwareAddr(sum[:6]).String()
		out := object{"MACAddress": mac, "PermanentMACAddress": mac, "LinkStatus": "LinkUp", "InterfaceEnabled": true, "Status": ok()}
		if host, _, err := net.SplitHostPort(b.addr); err == nil {
			out["IPv4Addresses"] = []object{{"Address": host, "SubnetMask": "255.0.0.0", "AddressOrigin": "Static", "Gateway": nil}}
		}
		return out
	})
}
