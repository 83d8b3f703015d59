// Package ignition turns one server's part of a plan into the Ignition config
// of its live system and of its installed system, KVM on, checked by Ignition's
// own validator before anybody gets it. It never reads, writes, dials, asks the
// clock or rolls dice: the same input gives the same bytes.
//
// # What is promised
//
//   - Every config that is returned was parsed by the strict parser of its own
//     spec version and validated; one warning is enough to refuse it.
//   - Values from site files and BMCs are checked before they are put into a
//     keyfile, script or config of another language. All that is wrong is
//     reported at once, each with the path of its field.
//   - The one secret, the token of the ticket, lies in the ticket file (mode
//     0600) and nowhere else: not in a unit, argument, URL or error.
//   - The live config touches no disk.
//   - Nothing depends on which system of CoreOS shape applies the config. Where
//     Fedora CoreOS and Debian look in different places (time servers, trusted
//     certificates) both places are written.
//
// # Kernel arguments
//
// KernelArguments is the one source of them. They have to hold on every boot,
// so Installed writes them as kernelArguments.shouldExist: Ignition's kargs stage
// hands them to the system's ignition-kargs-helper, which edits the boot entries
// and restarts once, as on Fedora CoreOS. The other road, arguments put into the
// boot partition for the first boot only, would lose them at the second boot.
// The general profile without huge pages has none, and works on a system
// without that helper.
//
// # SELinux
//
// Not tried on a system that enforces SELinux: the agent, fetched into
// /usr/local/bin, has the label of that folder, which systemd may start. What a
// node's task puts below /opt later is labelled by that task.
//
// # Names on the machine
//
//	/etc/metalrise/ticket.json         who to call, and the token; removed by the agent when spent
//	/etc/metalrise/ca.pem              the only authority the calls trust
//	/etc/metalrise/node.json           what this node is; no secrets
//	/usr/local/bin/metalrise-fetch     fetches the agent and checks its digest
//	metalrise-fetch.service            live system: runs it once the network is up
//	metalrise-agent.service            live system: the agent
//	metalrise-report.service           installed system: fetches and runs the agent until it is done
//	/etc/NetworkManager/conf.d/91-metalrise-cluster.conf  installed node of a cluster: whose interfaces are left alone
//	/etc/metalrise/medium.json         prepared medium: what it is
//	/usr/local/bin/metalrise-prepared  prepared medium: takes the program from it
//	metalrise-prepared.service         prepared medium: runs the engine on the machine itself
//	metalrise-trust.service            installed system: trusts the site's authorities
package ignition
