package selfimage

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"runtime"

	"github.com/bermhq/berm/internal/core/fault"
)

// architectures are those that Berm is made for, as images call them.
var architectures = map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}

// ReadPrograms reads the programs of one architecture from a directory: berm-shim, and unless initOnly berm.
func ReadPrograms(dir string, initOnly bool) (p Programs, err error) {
	if p.Init, p.Arch, err = readProgram(filepath.Join(dir, filepath.Base(Init))); err != nil || initOnly {
		return p, err
	}
	var arch string
	if p.Berm, arch, err = readProgram(filepath.Join(dir, filepath.Base(Program))); err != nil {
		return p, err
	}
	if arch != p.Arch {
		return p, fault.Invalidf("USAGE", "in %s, berm is for %s and berm-shim for %s", dir, arch, p.Arch)
	}
	return p, nil
}

// Running returns the programs of this process: itself, and the init that it carries. Unless initOnly, it must be static, as the
// binaries that are built for others are.
func Running(init []byte, initOnly bool) (p Programs, err error) {
	p = Programs{Arch: runtime.GOARCH, Init: init}
	if !initOnly {
		// By this name also where the file was replaced since it was started.
		p.Berm, p.Arch, err = readProgram("/proc/self/exe")
	}
	return p, err
}

// readProgram reads a program and says what it runs on.
func readProgram(path string) ([]byte, string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, "", fault.Invalidf("USAGE", "cannot read the program %s: %v", path, err)
	}
	f, err := elf.NewFile(bytes.NewReader(raw))
	if err != nil {
		return nil, "", fault.Invalidf("USAGE", "%s is no program of Linux: %v", path, err)
	}
	arch, ok := architectures[f.Machine]
	if !ok {
		return nil, "", fault.Invalidf("USAGE", "%s is for %s, which Berm does not run on", path, f.Machine)
	}
	for _, section := range f.Progs {
		if section.Type == elf.PT_INTERP {
			return nil, "", fault.Invalidf("USAGE", "%s needs libraries, which the image does not have", path).WithHint("Build it with CGO_ENABLED=0.")
		}
	}
	return raw, arch, nil
}
