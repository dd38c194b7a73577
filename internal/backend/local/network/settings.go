package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// setting is a kernel setting of the network namespace of the thread that writes it.
type setting struct {
	name, value string
	// optional settings are those that not every kernel has.
	optional bool
}

const settingsRoot = "/proc/sys/net"

func (s setting) write() error {
	err := os.WriteFile(filepath.Join(settingsRoot, s.name), []byte(s.value), 0)
	if err == nil || s.optional && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("kernel setting: %w", err)
}

// readSetting returns a setting, "" when the kernel has none of the name.
func readSetting(name string) string {
	data, err := os.ReadFile(filepath.Join(settingsRoot, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// insideSettings are those of a sandbox's namespace, which the sandbox cannot change. They are written before it has a link.
func insideSettings(six bool) []setting {
	off := "1"
	if six {
		off = "0"
	}
	return []setting{
		// The namespace belongs to the machine's root, so root inside has no privilege over it: not for ports, not for echo requests.
		{"ipv4/ip_unprivileged_port_start", "0", false},
		{"ipv4/ping_group_range", "0 2147483647", true},
		// No address that we did not give: none of the link's own, none by an announcement.
		{"ipv6/conf/default/addr_gen_mode", "1", true},
		{"ipv6/conf/default/accept_ra", "0", true},
		{"ipv6/conf/default/autoconf", "0", true},
		{"ipv6/conf/default/accept_redirects", "0", true},
		{"ipv6/conf/default/disable_ipv6", off, true},
		{"ipv4/conf/default/accept_redirects", "0", true},
		{"ipv4/conf/all/accept_redirects", "0", true},
	}
}

// Forwarding is decided where a packet comes in.
const (
	forward4 = "ipv4/conf/%s/forwarding"
	// forward6 is there from Linux 6.17 on. Before, only all links together can forward IPv6.
	forward6    = "ipv6/conf/%s/force_forwarding"
	forwardAll4 = "ipv4/conf/all/forwarding"
	forwardAll6 = "ipv6/conf/all/forwarding"
)

// hostSettings are those of the machine's end of a link.
func hostSettings(link string, six bool) []setting {
	conf4, conf6 := "ipv4/conf/"+link+"/", "ipv6/conf/"+link+"/"
	off := "1"
	if six {
		off = "0"
	}
	return []setting{
		{conf6 + "addr_gen_mode", "1", true},
		{conf6 + "accept_ra", "0", true},
		{conf6 + "accept_redirects", "0", true},
		{conf6 + "disable_ipv6", off, true},
		// What is decided about is the address on a packet, not one that its options name for later.
		{conf4 + "accept_source_route", "0", false},
		{conf6 + "accept_source_route", "-1", true},
		{conf4 + "accept_redirects", "0", true},
		{conf4 + "send_redirects", "0", true},
		{fmt.Sprintf(forward4, link), "1", false},
		{fmt.Sprintf(forward6, link), "1", true},
	}
}

// forwardsSix reports whether IPv6 can be forwarded here without changing how the machine itself uses it: switching it on for
// all links makes it ignore the announcements of its routers.
func forwardsSix() bool {
	return readSetting(forwardAll6) == "1" || readSetting(fmt.Sprintf(forward6, "lo")) != ""
}
