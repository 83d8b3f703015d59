package bmc

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

// shape is what one maker's tree looks like where it differs from others, in a
// few resources of our own making, and what must be read from it.
type shape struct {
	resources string // JSON: path below the system → body; "" is merged into the system, "/…" is a path of its own
	macs      string
	disks     string // serial/GB/hidden
	volumes   int
	settings  string // feature=name:on
	mode      string
	sockets   int
}

var shapes = map[string]shape{
	"Lenovo XCC: the cable to the BMC, functions under the chassis, grouped attributes": {resources: `{
		"": {"Manufacturer":"Lenovo","Links":{"Chassis":[{"@odata.id":"/redfish/v1/Chassis/1"}],"ManagedBy":[{"@odata.id":"/redfish/v1/Managers/1"}]},
			"EthernetInterfaces":{"@odata.id":"/redfish/v1/Systems/1/EthernetInterfaces"},"Storage":{"@odata.id":"/redfish/v1/Systems/1/Storage"},"Bios":{"@odata.id":"/redfish/v1/Systems/1/Bios"}},
		"EthernetInterfaces":{"Members":[{"@odata.id":"/redfish/v1/Systems/1/EthernetInterfaces/NIC1"},{"@odata.id":"/redfish/v1/Systems/1/EthernetInterfaces/ToManager"}]},
		"EthernetInterfaces/NIC1":{"Id":"NIC1","MACAddress":"08:94:EF:00:00:01","LinkStatus":"LinkUp"},
		"EthernetInterfaces/ToManager":{"Id":"ToManager","MACAddress":"0A:94:EF:00:00:99","Description":"Host's Ethernet-over-USB interface"},
		"/redfish/v1/Chassis/1":{"NetworkAdapters":{"@odata.id":"/redfish/v1/Chassis/1/NetworkAdapters"},"Links":{"ComputerSystems":[{"@odata.id":"/redfish/v1/Systems/1"}]}},
		"/redfish/v1/Chassis/1/NetworkAdapters":{"Members":[{"@odata.id":"/redfish/v1/Chassis/1/NetworkAdapters/ob-1"},{"@odata.id":"/redfish/v1/Chassis/1/NetworkAdapters/slot-2"}]},
		"/redfish/v1/Chassis/1/NetworkAdapters/ob-1":{"Id":"ob-1","NetworkDeviceFunctions":{"@odata.id":"/redfish/v1/Chassis/1/NetworkAdapters/ob-1/NetworkDeviceFunctions"}},
		"/redfish/v1/Chassis/1/NetworkAdapters/ob-1/NetworkDeviceFunctions":{"Members":[{"Id":"1.1","NetDevFuncType":"Ethernet","Ethernet":{"PermanentMACAddress":"08:94:EF:00:00:01"}},{"Id":"2.1","NetDevFuncType":"Ethernet","Ethernet":{"PermanentMACAddress":"08:94:EF:00:00:02"}}]},
		"/redfish/v1/Chassis/1/NetworkAdapters/slot-2":{"Id":"slot-2","NetworkDeviceFunctions":{"@odata.id":"/redfish/v1/Chassis/1/NetworkAdapters/slot-2/NetworkDeviceFunctions"}},
		"/redfish/v1/Chassis/1/NetworkAdapters/slot-2/NetworkDeviceFunctions":{"Members":[{"Id":"1.1","NetDevFuncType":"FibreChannelOverEthernet","Ethernet":{"MACAddress":"08:94:EF:00:00:FC"}},{"Id":"1.2","NetDevFuncType":"iSCSI","Ethernet":{"MACAddress":"08:94:EF:00:00:03"}}]},
		"Storage":{"Members":[{"@odata.id":"/redfish/v1/Systems/1/Storage/RAID_Slot3"}]},
		"Storage/RAID_Slot3":{"Drives":[{"@odata.id":"/redfish/v1/Systems/1/Storage/RAID_Slot3/Drives/Disk.0"},{"@odata.id":"/redfish/v1/Systems/1/Storage/RAID_Slot3/Drives/Disk.1"}],"Volumes":{"@odata.id":"/redfish/v1/Systems/1/Storage/RAID_Slot3/Volumes"}},
		"Storage/RAID_Slot3/Drives/Disk.0":{"@odata.id":"/redfish/v1/Systems/1/Storage/RAID_Slot3/Drives/Disk.0","SerialNumber":"L0","CapacityBytes":480103981056,"MediaType":"SSD"},
		"Storage/RAID_Slot3/Drives/Disk.1":{"@odata.id":"/redfish/v1/Systems/1/Storage/RAID_Slot3/Drives/Disk.1","SerialNumber":"L1","CapacityBytes":480103981056,"MediaType":"SSD","HotspareType":"Global"},
		"Storage/RAID_Slot3/Volumes":{"Members":[{"@odata.id":"/redfish/v1/Systems/1/Storage/RAID_Slot3/Volumes/0","RAIDType":"RAID0","CapacityBytes":479559942144,"Links":{"Drives":[{"@odata.id":"/redfish/v1/Systems/1/Storage/RAID_Slot3/Drives/Disk.0"}]}}]},
		"Bios":{"Attributes":{"Processors_IntelVirtualizationTechnology":"Enabled","DevicesandIOPorts_SRIOV":"Disabled","DevicesandIOPorts_IntelVTforDirectedIO":"Enabled","BootModes_SystemBootMode":"UEFIMode"}}}`,
		macs: "08:94:ef:00:00:01 08:94:ef:00:00:02 08:94:ef:00:00:03", disks: "L0/480/hidden L1/480/hidden", volumes: 1, mode: "uefi",
		settings: "sr-iov=DevicesandIOPorts_SRIOV:off vt-d=DevicesandIOPorts_IntelVTforDirectedIO:on vt-x=Processors_IntelVirtualizationTechnology:on"},

	"Supermicro X12: numbered attributes, NVMe in a group, plain addresses at ports": {resources: `{
		"": {"Manufacturer":"Supermicro","Links":{"Chassis":[{"@odata.id":"/redfish/v1/Chassis/1"}]},"Storage":{"@odata.id":"/redfish/v1/Systems/1/Storage"},"Bios":{"@odata.id":"/redfish/v1/Systems/1/Bios"},
			"ProcessorSummary":{"Count":2,"Model":"Intel Xeon"}},
		"/redfish/v1/Chassis/1":{"NetworkAdapters":{"@odata.id":"/redfish/v1/Chassis/1/NetworkAdapters"}},
		"/redfish/v1/Chassis/1/NetworkAdapters":{"Members":[{"@odata.id":"/redfish/v1/Chassis/1/NetworkAdapters/1"},{"@odata.id":"/redfish/v1/Chassis/1/NetworkAdapters/2"}]},
		"/redfish/v1/Chassis/1/NetworkAdapters/1":{"Id":"1","NetworkPorts":{"@odata.id":"/redfish/v1/Chassis/1/NetworkAdapters/1/NetworkPorts"}},
		"/redfish/v1/Chassis/1/NetworkAdapters/1/NetworkPorts":{"Members":[{"Id":"1","AssociatedNetworkAddresses":["3CECEF000001"],"LinkStatus":"Up"},{"Id":"2","AssociatedNetworkAddresses":["3CECEF000002"]}]},
		"/redfish/v1/Chassis/1/NetworkAdapters/2":{"Id":"2","NetworkPorts":{"@odata.id":"/redfish/v1/Chassis/1/NetworkAdapters/2/NetworkPorts"}},
		"/redfish/v1/Chassis/1/NetworkAdapters/2/NetworkPorts":{"Members":[{"Id":"1","AssociatedNetworkAddresses":["3CECEF000011"]},{"Id":"2","ActiveLinkTechnology":"InfiniBand","AssociatedNetworkAddresses":["3CECEF000012"]}]},
		"Storage":{"Members":[{"@odata.id":"/redfish/v1/Systems/1/Storage/NVMeSSD"}]},
		"Storage/NVMeSSD":{"Drives":[{"@odata.id":"/redfish/v1/Chassis/NVMeSSD.0.Group.0.StorageBackplane/Drives/Disk.Bay.0"},{"@odata.id":"/redfish/v1/Chassis/NVMeSSD.0.Group.0.StorageBackplane/Drives/Disk.Bay.1"}]},
		"/redfish/v1/Chassis/NVMeSSD.0.Group.0.StorageBackplane/Drives/Disk.Bay.0":{"@odata.id":"/redfish/v1/Chassis/NVMeSSD.0.Group.0.StorageBackplane/Drives/Disk.Bay.0","SerialNumber":"  S1 ","Model":"SAMSUNG MZQL23T8HCLS-00A07","CapacityBytes":3840755982336,"Protocol":"NVMe"},
		"/redfish/v1/Chassis/NVMeSSD.0.Group.0.StorageBackplane/Drives/Disk.Bay.1":{"@odata.id":"/redfish/v1/Chassis/NVMeSSD.0.Group.0.StorageBackplane/Drives/Disk.Bay.1","Status":{"State":"Absent"}},
		"Bios":{"Attributes":{"IntelVirtualizationTechnology#00C5":"Enable","SR_IOVSupport#0045":"Enabled","IntelVTforDirectedI_O_VT_d_#0066":"Disable","BootModeSelect#1008":"UEFI","VMXLock#0001":"Enabled"}}}`,
		macs: "3c:ec:ef:00:00:01 3c:ec:ef:00:00:02 3c:ec:ef:00:00:11", disks: "S1/3841/", mode: "uefi", sockets: 2,
		settings: "sr-iov=SR_IOVSupport#0045:on vt-d=IntelVTforDirectedI_O_VT_d_#0066:off vt-x=IntelVirtualizationTechnology#00C5:on"},

	"Huawei iBMC: ports behind controllers, drives of the chassis only, no managers named": {resources: `{
		"": {"Manufacturer":"Huawei","Links":{"Chassis":[{"@odata.id":"/redfish/v1/Chassis/1"}]},"Bios":{"@odata.id":"/redfish/v1/Systems/1/Bios"},
			"Storage":{"@odata.id":"/redfish/v1/Systems/1/Storages"}},
		"Storages":{"Members":[]},
		"/redfish/v1/Chassis/1":{"Drives":{"@odata.id":"/redfish/v1/Chassis/1/Drives"},"NetworkAdapters":{"@odata.id":"/redfish/v1/Chassis/1/NetworkAdapters"}},
		"/redfish/v1/Chassis/1/Drives":{"Members":[{"@odata.id":"/redfish/v1/Chassis/1/Drives/HDDPlaneDisk0","SerialNumber":"H0","CapacityBytes":1800000000000,"MediaType":"HDD","Protocol":"SAS"},{"@odata.id":"/redfish/v1/Chassis/1/Drives/HDDPlaneDisk1","SerialNumber":"H1","CapacityBytes":1758174768,"MediaType":"HDD","Protocol":"SAS"}]},
		"/redfish/v1/Chassis/1/NetworkAdapters":{"Members":[{"@odata.id":"/redfish/v1/Chassis/1/NetworkAdapters/mainboardLOM"}]},
		"/redfish/v1/Chassis/1/NetworkAdapters/mainboardLOM":{"Id":"mainboardLOM","Controllers":[{"Link":{"NetworkPorts":[{"@odata.id":"/redfish/v1/Chassis/1/NetworkAdapters/mainboardLOM/NetworkPorts/1"},{"@odata.id":"/redfish/v1/Chassis/1/NetworkAdapters/mainboardLOM/NetworkPorts/2"}]}}]},
		"/redfish/v1/Chassis/1/NetworkAdapters/mainboardLOM/NetworkPorts/1":{"Id":"1","AssociatedNetworkAddresses":["f4:79:60:00:00:01"],"LinkStatus":"Up"},
		"/redfish/v1/Chassis/1/NetworkAdapters/mainboardLOM/NetworkPorts/2":{"Id":"2","AssociatedNetworkAddresses":["N/A"]},
		"Bios":{"Attributes":{"VMXEnable":"Enabled","VTdSupport":"Enabled","BootType":"LegacyBoot"}}}`,
		macs: "f4:79:60:00:00:01", disks: "H0/1800/ H1/?/", mode: "bios", settings: "vt-d=VTdSupport:on vt-x=VMXEnable:on"},

	"AMI MegaRAC: coded attributes explained by a registry, AMD processors": {resources: `{
		"": {"Manufacturer":"GIGABYTE","Bios":{"@odata.id":"/redfish/v1/Systems/1/Bios"},"Processors":{"@odata.id":"/redfish/v1/Systems/1/Processors"}},
		"Processors":{"Members":[{"@odata.id":"/redfish/v1/Systems/1/Processors/1","ProcessorType":"CPU","Model":"AMD EPYC 7713","TotalCores":64,"TotalThreads":128},{"@odata.id":"/redfish/v1/Systems/1/Processors/2","Status":{"State":"Absent"}}]},
		"Bios":{"AttributeRegistry":"BiosAttributeRegistryR282.0.1.0","Attributes":{"CPU005":"CPU005Enabled","PCIS007":"Disabled","NBIO001":"Auto","SETUP001":"x"}},
		"/redfish/v1/Registries":{"Members":[{"@odata.id":"/redfish/v1/Registries/Base.1.0"},{"@odata.id":"/redfish/v1/Registries/BiosAttributeRegistryR282.0.1.0"}]},
		"/redfish/v1/Registries/BiosAttributeRegistryR282.0.1.0":{"Location":[{"Language":"zh-CN","Uri":"/zh.json"},{"Language":"en-US","Uri":"/redfish/v1/Registries/Bios.json"}]},
		"/redfish/v1/Registries/Bios.json":{"RegistryEntries":{"Attributes":[{"AttributeName":"CPU005","DisplayName":"SVM Mode"},{"AttributeName":"PCIS007","DisplayName":"SR-IOV Support"},{"AttributeName":"NBIO001","DisplayName":"IOMMU"},{"AttributeName":"SETUP001","DisplayName":"Administrator Password"}]}}}`,
		sockets: 1, settings: "amd-v=CPU005:on sr-iov=PCIS007:off vt-d=NBIO001:?"},

	"Dell PERC: ready drives are not shown, passed-through ones are": {resources: `{
		"": {"Manufacturer":"Dell Inc.","Storage":{"@odata.id":"/redfish/v1/Systems/1/Storage"}},
		"Storage":{"Members":[{"@odata.id":"/redfish/v1/Systems/1/Storage/RAID.Slot.3-1"},{"@odata.id":"/redfish/v1/Systems/1/Storage/gone"}]},
		"Storage/RAID.Slot.3-1":{"Drives":[
			{"@odata.id":"/d/0","SerialNumber":"P0","CapacityBytes":960197124096,"Protocol":"SATA","Oem":{"Dell":{"DellPhysicalDisk":{"RaidStatus":"Ready"}}}},
			{"@odata.id":"/d/1","SerialNumber":"P1","CapacityBytes":960197124096,"Protocol":"SATA","Oem":{"Dell":{"DellPhysicalDisk":{"RaidStatus":"NonRAID"}}}},
			{"@odata.id":"/d/2","SerialNumber":"P2","CapacityBytes":960197124096,"Protocol":"NVMe","Oem":{"Dell":{"DellPhysicalDisk":{"RaidStatus":"Ready"}}}},
			{"@odata.id":"/d/2","SerialNumber":"P2","CapacityBytes":960197124096,"Protocol":"NVMe"}]}}`,
		disks: "P0/960/hidden P1/960/ P2/960/"},

	"HPE Gen9: everything in HPE's own tree": {resources: `{
		"": {"Manufacturer":"HPE","Oem":{"Hp":{"Links":{"SmartStorage":{"@odata.id":"/redfish/v1/Systems/1/SmartStorage"},"NetworkAdapters":{"@odata.id":"/redfish/v1/Systems/1/NetworkAdapters"}}}}},
		"NetworkAdapters":{"Members":[{"PhysicalPorts":[{"MacAddress":"94:18:82:00:00:01","Name":"a"},{"MacAddress":"94:18:82:00:00:02"},{"MacAddress":null}]}]},
		"SmartStorage":{"Links":{"ArrayControllers":{"@odata.id":"/redfish/v1/Systems/1/SmartStorage/ArrayControllers"}}},
		"SmartStorage/ArrayControllers":{"Members":[{"Links":{"PhysicalDrives":{"@odata.id":"/redfish/v1/Systems/1/SmartStorage/DiskDrives"}}}]},
		"SmartStorage/DiskDrives":{"Members":[{"SerialNumber":"G9","CapacityMiB":572325,"MediaType":"HDD","InterfaceType":"SAS"}]}}`,
		macs: "94:18:82:00:00:01 94:18:82:00:00:02", disks: "G9/600/"},

	"OpenBMC: the usb cable, drives without a size, options named only": {resources: `{
		"": {"EthernetInterfaces":{"@odata.id":"/redfish/v1/Systems/1/EthernetInterfaces"},"Boot":{"BootOptions":{"@odata.id":"/redfish/v1/Systems/1/BootOptions"}},"ProcessorSummary":{"Count":"1","Model":"ARMv8"}},
		"EthernetInterfaces":{"Members":[{"Id":"usb0","MACAddress":"02:00:00:00:00:01"},{"Id":"eth0","MACAddress":""}]},
		"BootOptions":{"Members":[{"DisplayName":"UEFI PXEv4 (MAC:B8599F000001)"},{"DisplayName":"UEFI PXEv4 USB (MAC:B8599F000002)"},{"DisplayName":"Shell"},{"DisplayName":"UEFI HTTPv6 (MAC:B8:59:9F:00:00:03)"}]}}`,
		macs: "b8:59:9f:00:00:01 b8:59:9f:00:00:03", mode: "uefi", sockets: 1},

	"units that contradict names, and names that are no sizes": {resources: `{
		"": {"Storage":{"@odata.id":"/redfish/v1/Systems/1/Storage"}},
		"Storage":{"Members":[{"@odata.id":"/redfish/v1/Systems/1/Storage/1","Drives":[
			{"SerialNumber":"U1","Model":"PM 7.68TB","CapacityBytes":7501476528},
			{"SerialNumber":"U2","Name":"480GB 6Gb/s SSD","CapacityBytes":480103981056},
			{"SerialNumber":"U3","Model":"MG 12GB/s","CapacityBytes":4000787030016},
			{"SerialNumber":"U4","CapacityBytes":"3840755982336"},
			{"SerialNumber":"U5","CapacityBytes":-1},
			{"SerialNumber":"U6","CapacityLogicalBlocks":7814037168,"BlockSizeBytes":512},
			{"SerialNumber":"U7","Model":"iDRAC LCDRIVE","CapacityBytes":20000000000}]}]}}`,
		disks: "U1/?/ U2/480/ U3/4001/ U4/3841/ U5/?/ U6/4001/"},
}

func TestShapesOfMakers(t *testing.T) {
	for name, c := range shapes {
		t.Run(name, func(t *testing.T) {
			var resources map[string]object
			if err := json.Unmarshal([]byte(c.resources), &resources); err != nil {
				t.Fatal(err)
			}
			f := newFake()
			f.resources["/redfish/v1"]["Registries"] = ref("/redfish/v1/Registries")
			f.resources["/redfish/v1"]["Chassis"] = ref("/redfish/v1/Chassis")
			for path, body := range resources {
				switch {
				case path == "":
					maps.Copy(f.resources[sysPath], body)
				case strings.HasPrefix(path, "/"):
					f.resources[path] = body
				default:
					f.resources[sysPath+"/"+path] = body
				}
			}
			facts, err := dial(t, serve(t, f)).Inspect(t.Context(), "")
			noError(t, err)
			compareShape(t, c, facts)
		})
	}
}

func compareShape(t *testing.T, c shape, f fleet.Facts) {
	t.Helper()
	var macs, disks, settings []string
	for _, n := range f.NICs {
		macs = append(macs, n.MAC)
	}
	for _, d := range f.Disks {
		size, hidden := "?", ""
		if b, ok := d.SizeBytes.Get(); ok {
			size = strings.TrimSuffix(bytesText(float64((b+5e8)/1e9*1e9)), " GB")
			if tb, is := strings.CutSuffix(size, " TB"); is {
				size = strings.ReplaceAll((tb + ".000"), ".", "")[:4]
			}
		}
		if d.Hidden != "" {
			hidden = "hidden"
		}
		disks = append(disks, d.Serial+"/"+size+"/"+hidden)
	}
	for _, s := range f.BIOSSettings {
		on := "?"
		if v, known := s.On.Get(); known {
			on = map[bool]string{true: "on", false: "off"}[v]
		}
		settings = append(settings, string(s.Feature)+"="+s.Name+":"+on)
	}
	slices.Sort(macs)
	slices.Sort(disks)
	slices.Sort(settings)
	for what, pair := range map[string][2]string{
		"macs": {strings.Join(macs, " "), c.macs}, "disks": {strings.Join(disks, " "), c.disks},
		"settings": {strings.Join(settings, " "), c.settings}, "mode": {f.BootMode.Or(""), firstOf(c.mode, "uefi")},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s:\n got %s\nwant %s\nproblems %v", what, pair[0], pair[1], f.Problems)
		}
	}
	if len(f.Volumes) != c.volumes || f.CPU.Sockets.Or(0) != c.sockets {
		t.Errorf("volumes %+v, cpu %+v", f.Volumes, f.CPU)
	}
}
