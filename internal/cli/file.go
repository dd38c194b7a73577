package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/specfile"
)

// file is a document that a person wrote, with its text so that errors can be shown in it.
type file struct {
	name string
	data []byte
	root *tree.Node
	// kept is the folder of a text that was written in an editor: it stays until the server has taken the text.
	kept string
}

// readFile reads -f FILE, or standard input for "-". Errors are shown in the text.
func (s *session) readFile(name string) (*file, error) {
	if name == "" {
		return nil, fault.Invalidf("USAGE", "name a file with -f, or - for standard input")
	}
	f := &file{name: name}
	r := s.In
	if name == "-" {
		f.name = "standard input"
	} else {
		opened, err := os.Open(name)
		if err != nil {
			return nil, unreadable(name, err)
		}
		defer opened.Close()
		r = opened
	}
	// One byte more than the limit, so that a larger file is refused by size and not read in full.
	data, err := io.ReadAll(io.LimitReader(r, tree.MaxDocument+1))
	if err != nil {
		return nil, unreadable(f.name, err)
	}
	if len(data) > tree.MaxDocument {
		return nil, fault.Invalidf(fault.ReasonLimitExceeded, "%s is larger than %d bytes, the most that a document may have", f.name, tree.MaxDocument)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, fault.Invalidf(fault.ReasonSyntax, "%s is empty", f.name)
	}
	f.data = data
	if f.root, err = specfile.Parse(data); err != nil {
		return nil, f.show(err)
	}
	if f.root.Kind != tree.Object {
		return nil, fault.Invalidf(fault.ReasonSyntax, "%s: expected an object, got %s", f.name, f.root.Kind)
	}
	return f, nil
}

// ofKind takes the kind from a document, as files that are applied have it, and refuses another than this command is about.
func (f *file) ofKind(kind string) error {
	k := f.root.Get("kind")
	if k == nil {
		return nil
	}
	if k.Text != kind {
		return f.show(misplaced(k, "kind", "is %q; this command takes a %s", k.Text, kind))
	}
	f.root = without(f.root, "kind")
	return nil
}

func unreadable(name string, err error) error {
	return fault.Invalidf("FILE_UNREADABLE", "cannot read %s: %v", name, bare(err))
}

func unwritable(name string, err error) error {
	return fault.Invalidf("FILE_UNWRITABLE", "cannot write %s: %v", name, bare(err))
}

// bare is the reason alone of an error of the file system: the message names the file as the user did.
func bare(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// show attaches the rendering of err in the file's text.
func (f *file) show(err error) error {
	if err == nil {
		return nil
	}
	err = f.placed(err)
	text := specfile.Render(f.name, f.data, err)
	if text == "" {
		return err
	}
	return &renderedError{err: err, text: text}
}

// edit opens text in the user's editor and returns the file that was saved. An unchanged text is an error that changes nothing.
func (s *session) edit(ctx context.Context, name string, text []byte) (*file, error) {
	editor := first(s.Getenv("VISUAL"), s.Getenv("EDITOR"))
	if editor == "" {
		return nil, fault.Invalidf("USAGE", "no file was given, and no editor is set").WithHint("Use -f FILE, or set EDITOR.")
	}
	dir, err := os.MkdirTemp("", "berm-edit")
	if err != nil {
		return nil, fault.Internalf(err, "cannot make a temporary folder")
	}
	path := filepath.Join(dir, name+".yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, fault.Internalf(err, "cannot write %s", path)
	}
	words := strings.Fields(editor)
	cmd := exec.CommandContext(ctx, words[0], append(words[1:], path)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.In, s.Out, s.Err
	if err := cmd.Run(); err != nil {
		return nil, fault.Invalidf("EDITOR_FAILED", "%s: %v", words[0], err).WithHint("Your text is kept in %s.", path)
	}
	f, err := s.readFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w (your text is kept in %s)", err, path)
	}
	if bytes.Equal(f.data, text) {
		os.RemoveAll(dir)
		return nil, fault.Invalidf("UNCHANGED", "nothing was changed")
	}
	f.kept = dir
	return f, nil
}

// done ends the life of a text from an editor: nobody writes it twice because the server refused it.
func (s *session) done(f *file, err *error) {
	switch {
	case f.kept == "":
	case *err == nil:
		os.RemoveAll(f.kept)
	default:
		fmt.Fprintf(s.Err, "Your text is kept in %s.\n", f.name)
	}
}

// confirm asks on a terminal; elsewhere it refuses, so that no script loses something by silence.
func (s *session) confirm(question string) error {
	if s.preview {
		return nil
	}
	in, ok := s.In.(*os.File)
	if !ok || !isTerminal(in) {
		return fault.Preconditionf("CONFIRMATION_NEEDED", "%s", question).WithHint("Repeat with --yes to do it.")
	}
	fmt.Fprintf(s.Err, "%s Type yes to go on: ", question)
	var answer string
	if _, err := fmt.Fscanln(in, &answer); err != nil || answer != "yes" {
		return fault.New(fault.Canceled, "CANCELED", "nothing was changed")
	}
	return nil
}
