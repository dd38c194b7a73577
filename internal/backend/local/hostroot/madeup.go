package hostroot

type textFile struct{ path, text string }

// madeUp are the files of /etc that belong to no machine. hosts and hostname differ by sandbox and are mounted over these.
func madeUp() []textFile {
	return []textFile{
		{"etc/passwd", "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n" +
			"user:x:1000:1000:user:/home:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
		{"etc/group", "root:x:0:\ndaemon:x:1:\ntty:x:5:\nuser:x:1000:\nnogroup:x:65534:\n"},
		{"etc/shells", "/bin/sh\n/bin/bash\n"},
		{"etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"},
		{"etc/hostname", "sandbox\n"},
		// No name server: a sandbox without network has no names.
		{"etc/resolv.conf", ""},
		{"etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n"},
		{"etc/host.conf", "multi on\n"},
		{"etc/networks", "loopback 127.0.0.0\n"},
		{"etc/protocols", "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6 41 IPv6\nipv6-icmp 58 IPv6-ICMP\n"},
		{"etc/services", "ssh 22/tcp\ndomain 53/tcp\ndomain 53/udp\nhttp 80/tcp www\nhttps 443/tcp\nhttps 443/udp\npostgresql 5432/tcp\n"},
		{"etc/profile", "export PATH=${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}\nPS1='\\u@\\h:\\w\\$ '\n"},
		{"etc/bash.bashrc", "PS1='\\u@\\h:\\w\\$ '\n"},
		{"etc/os-release", "PRETTY_NAME=\"Berm sandbox with this machine's /usr\"\nNAME=\"Berm host image\"\nID=berm-host\nID_LIKE=linux\n"},
		{"etc/timezone", "Etc/UTC\n"},
	}
}
