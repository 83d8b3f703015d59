package tui

import (
	"strings"

	"metalrise.dev/fleet"
)

// ValueAt gives the value of a field as people type it; "" where it has none.
func ValueAt(s fleet.Site, path string) string {
	section, _, _ := strings.Cut(path, ".")
	switch section {
	case "name":
		return s.Name
	case "bmcs":
		return bmcsValue(s.BMCs, path)
	case "cluster":
		return clusterValue(s.Cluster, path)
	case "network":
		return networkValue(s.Network, path)
	case "disks":
		return disksValue(s.Disks, path)
	case "virtualization":
		return virtValue(s.Virtualization, path)
	case "platform":
		return platformValue(s.Platform, path)
	case "image":
		return s.Image
	case "servers":
		return foreignValue(s.Servers, path)
	}
	switch path {
	case "access.sshKeys":
		return strings.Join(s.Access.SSHKeys, ", ")
	case "access.caCertificates":
		return orEmpty(len(s.Access.CACertificates)) // how many: nobody reads the rest
	case "serving.address":
		return s.Serving.Address
	case "serving.netboot":
		return s.Serving.Netboot
	case "serving.medium":
		return string(s.Serving.Medium)
	case "serving.port":
		return orEmpty(s.Serving.Port)
	}
	return ""
}

func bmcsValue(b fleet.BMCs, path string) string {
	switch path {
	case "bmcs.addresses":
		return strings.Join(b.Addresses, ", ")
	case "bmcs.username":
		return b.Username
	case "bmcs.password":
		if !b.Password.IsZero() {
			return b.Password.String()
		}
	case "bmcs.import":
		return b.Import
	case "bmcs.port":
		return orEmpty(b.Port)
	case "bmcs.legacyTLS":
		return strings.Join(b.LegacyTLS, ", ")
	case "bmcs.slowLinks":
		return strings.Join(b.SlowLinks, ", ")
	}
	return ""
}

func clusterValue(c fleet.Cluster, path string) string {
	switch path {
	case "cluster.controlPlanes":
		return orEmpty(c.ControlPlanes)
	case "cluster.domain":
		return c.Domain
	case "cluster.software":
		return c.Software
	case "cluster.flavour":
		return string(c.Flavour)
	case "cluster.vip":
		return c.VIP
	case "cluster.loadBalancer":
		return c.LoadBalancer
	case "cluster.vrrp":
		return orEmpty(c.VRRP)
	case "cluster.podCIDR":
		return c.PodCIDR
	case "cluster.serviceCIDR":
		return c.ServiceCIDR
	case "cluster.cni":
		return string(c.CNI)
	case "cluster.cniManifests":
		return c.CNIManifests
	case "cluster.controlPlaneWorkloads":
		return yes(c.ControlPlaneWorkloads)
	}
	return ""
}

func networkValue(n fleet.SiteNetwork, path string) string {
	switch path {
	case "network.firstAddress":
		return n.FirstAddress
	case "network.gateway":
		return n.Gateway
	case "network.dns":
		return strings.Join(n.DNS, ", ")
	case "network.ntp":
		return strings.Join(n.NTP, ", ")
	case "network.vlan":
		return orEmpty(n.VLAN)
	case "network.mtu":
		return orEmpty(n.MTU)
	case "network.bond":
		return n.Bond
	}
	return ""
}

func disksValue(d fleet.DiskChoice, path string) string {
	switch path {
	case "disks.minSizeGiB":
		return orEmpty(d.MinSizeGiB)
	case "disks.media":
		return string(d.Media)
	case "disks.model":
		return d.Model
	}
	return ""
}

func virtValue(v fleet.Virtualization, path string) string {
	switch path {
	case "virtualization.profile":
		return string(v.Profile)
	case "virtualization.nested":
		return yes(v.Nested)
	case "virtualization.hugepagesGiB":
		return orEmpty(v.HugepagesGiB)
	case "virtualization.emulation":
		return yes(v.Emulation)
	case "virtualization.dedicatedCPUs":
		return yes(v.DedicatedCPUs)
	case "virtualization.reservedCPUs":
		return orEmpty(v.ReservedCPUs)
	case "virtualization.reservedMemoryMiB":
		return orEmpty(v.ReservedMemoryMiB)
	}
	return ""
}

func yes(b bool) string {
	if b {
		return "true"
	}
	return ""
}
