// The shim sets its own small number of processors; it need not read the control group's files for one, nor follow them.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command berm-shim is the small half of Berm that is beside and inside every sandbox: on the host it runs and watches one
// container (shim), inside it is process 1 (init) and names the sandbox where the host cannot (hostname), also of a pod (pod), where
// it is installed by a container of its own (install) and reached through another process of it (connect). The server carries it within and starts it; it is not for people.
package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/bermhq/berm/internal/initd"
	"github.com/bermhq/berm/internal/shim/host"
	"github.com/bermhq/berm/internal/shim/oci"
)

const usage = `usage: berm-shim shim --state DIR
       berm-shim init --fd N --open-files N | --dial SOCKET
       berm-shim hold FD PROGRAM ARG...
       berm-shim hostname NAME
       berm-shim pod KEY [PROGRAM ARG...]
       berm-shim install DIR [RULE...]
       berm-shim connect SOCKET
       berm-shim answer PORT
       berm-shim reach SECONDS ADDRESS...
`

func main() {
	// No flag package: two fixed command lines do not need it, and the init starts in every sandbox.
	if len(os.Args) == 4 && os.Args[1] == "shim" && os.Args[2] == "--state" {
		os.Exit(host.Run(os.Args[3]))
	}
	if len(os.Args) == 6 && os.Args[1] == "init" && os.Args[2] == "--fd" && os.Args[4] == "--open-files" {
		fd, err := strconv.Atoi(os.Args[3])
		if files, err2 := strconv.ParseUint(os.Args[5], 10, 64); err == nil && err2 == nil && fd >= 0 {
			os.Exit(initd.Run(initd.Inherited(fd), initd.Limits{OpenFiles: files}))
		}
	}
	if len(os.Args) == 4 && os.Args[1] == "init" && os.Args[2] == "--dial" {
		os.Exit(initd.Run(initd.Dialled(os.Args[3]), initd.Limits{}))
	}
	if len(os.Args) > 4 && os.Args[1] == "hold" {
		if fd, err := strconv.Atoi(os.Args[2]); err == nil && fd > 2 {
			os.Exit(oci.Hold(fd, os.Args[3], os.Args[4:]))
		}
	}
	if len(os.Args) == 3 && os.Args[1] == oci.HostnameVerb {
		os.Exit(initd.Hostname(os.Args[2]))
	}
	if len(os.Args) > 2 && os.Args[1] == "pod" {
		os.Exit(initd.RunPod(initd.Pod{Key: os.Args[2], Argv: os.Args[3:]}))
	}
	if len(os.Args) > 2 && os.Args[1] == "install" {
		os.Exit(initd.Install(os.Args[2], os.Args[3:]))
	}
	if len(os.Args) == 3 && os.Args[1] == "connect" {
		os.Exit(initd.Connect(os.Args[2]))
	}
	if len(os.Args) == 3 && os.Args[1] == "answer" {
		os.Exit(initd.Answer(os.Args[2]))
	}
	if len(os.Args) > 3 && os.Args[1] == "reach" {
		os.Exit(initd.Reach(os.Args[2], os.Args[3:]))
	}
	fmt.Fprint(os.Stderr, usage)
	os.Exit(2)
}
