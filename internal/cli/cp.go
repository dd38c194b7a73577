package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	v1beta2pb "github.com/bermhq/berm/gen/coreweave/sandbox/v1beta2"
	"github.com/bermhq/berm/internal/client"
	"github.com/bermhq/berm/internal/core/fault"
)

// maxCopy is the largest file that goes in one call, in bytes: the unary limit of the published interface.
const maxCopy = 32 << 20

func (s *session) cpCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "cp SOURCE DESTINATION",
		Short: "Copy a file into or out of a sandbox",
		Long:  "Copy one file. One of the two is SANDBOX:PATH with an absolute path, the other a local file; - is standard input or output.",
		Args:  args(2, 2, "a source and a destination"),
		RunE: s.with(func(ctx context.Context, c *client.Client, a []string) error {
			fromBox, from := splitRemote(a[0])
			toBox, to := splitRemote(a[1])
			switch {
			case (fromBox == "") == (toBox == ""):
				return fault.Invalidf("USAGE", "exactly one of source and destination must be SANDBOX:PATH")
			case toBox != "":
				return s.copyIn(ctx, c, from, toBox, to)
			default:
				return s.copyOut(ctx, c, fromBox, from, to)
			}
		}),
	}
}

// splitRemote tells SANDBOX:/path from a local name, which may hold a colon behind a slash.
func splitRemote(arg string) (sandbox, name string) {
	head, tail, ok := strings.Cut(arg, ":")
	if !ok || head == "" || strings.ContainsAny(head, "/.") || !strings.HasPrefix(tail, "/") {
		return "", arg
	}
	return head, tail
}

func (s *session) copyIn(ctx context.Context, c *client.Client, local, id, to string) error {
	var data []byte
	var err error
	if local == "-" {
		data, err = readAll(s.In, maxCopy)
	} else {
		data, err = readLimited(local, maxCopy)
	}
	if err != nil {
		return err
	}
	if strings.HasSuffix(to, "/") {
		to = path.Join(to, filepath.Base(local))
	}
	resp, err := c.Gateway().AddFile(ctx, &v1beta2pb.AddFileSandboxRequest{SandboxId: id, Filepath: to, FileContents: data})
	if err != nil {
		return err
	}
	if !resp.GetSuccess() {
		return fault.Preconditionf(fault.ReasonFileIOFailed, "%s", resp.GetErrorMessage())
	}
	return nil
}

func (s *session) copyOut(ctx context.Context, c *client.Client, id, from, local string) error {
	resp, err := c.Gateway().RetrieveFile(ctx, &v1beta2pb.RetrieveFileSandboxRequest{SandboxId: id, Filepath: from})
	if err != nil {
		return err
	}
	if !resp.GetSuccess() {
		return fault.Preconditionf(fault.ReasonFileIOFailed, "%s", resp.GetErrorMessage())
	}
	if local == "-" {
		_, err = s.Out.Write(resp.GetFileContents())
		return err
	}
	if info, err := os.Stat(local); err == nil && info.IsDir() {
		local = filepath.Join(local, path.Base(from))
	}
	if err := writeLocal(local, resp.GetFileContents()); err != nil {
		return unwritable(local, err)
	}
	fmt.Fprintf(s.Err, "%s: %d bytes\n", local, len(resp.GetFileContents()))
	return nil
}

// writeLocal writes a file aside and puts it in place, so that a failure leaves what was there. A link keeps leading to the file,
// the file keeps its mode, and what is no file, such as /dev/null or a pipe, is written to and stays what it is.
func writeLocal(local string, data []byte) error {
	mode := os.FileMode(0o644)
	info, err := os.Stat(local)
	switch {
	case err == nil && !info.Mode().IsRegular():
		f, err := os.OpenFile(local, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return errors.Join(err, f.Close())
	case err == nil:
		mode = info.Mode().Perm()
		if local, err = filepath.EvalSymlinks(local); err != nil {
			return err
		}
	}
	tmp, err := os.CreateTemp(filepath.Dir(local), "."+filepath.Base(local)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err = tmp.Write(data); err == nil {
		err = tmp.Chmod(mode)
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), local)
	}
	return err
}
