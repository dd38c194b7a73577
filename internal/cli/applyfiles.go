package cli

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/tree"
	"github.com/bermhq/berm/internal/specfile"
)

// Limits of what one apply reads.
const (
	// maxObjectFiles is how many files, maxObjects how many documents in them.
	maxObjectFiles = 10_000
	maxObjects     = 10_000
	// maxObjectBytes is how large all files may be together.
	maxObjectBytes = 32 << 20
	// maxObjectDepth is how deep directories may be nested.
	maxObjectDepth = 32
	// maxObjectErrors is how many broken documents are shown.
	maxObjectErrors = 20
)

// setFile, in the directory that is applied, says whose its objects are.
const setFile = "berm.yaml"

// objectReader reads the files of an apply.
type objectReader struct {
	session *session
	files   []*file
	bytes   int64
	// sources are what was named to be read, in that order.
	sources []objectSource
}

// objectSource is a file, a directory or standard input, and whose its objects are, "" when it does not say.
type objectSource struct{ name, owner string }

// readObjects reads files, directories and standard input, in the order given.
func (s *session) readObjects(names []string) (*objectReader, error) {
	r := &objectReader{session: s}
	for _, name := range names {
		r.sources = append(r.sources, objectSource{name: name})
		if err := r.read(name); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *objectReader) read(name string) error {
	if name == "-" {
		return r.add("standard input", r.session.In)
	}
	info, err := os.Stat(name)
	if err != nil {
		return unreadable(name, err)
	}
	if info.IsDir() {
		return r.directory(name)
	}
	if !info.Mode().IsRegular() {
		return fault.Invalidf("FILE_UNREADABLE", "%s is neither a file nor a directory", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return unreadable(name, err)
	}
	defer f.Close()
	return r.add(name, f)
}

// directory reads the files below a directory, by name. Hidden ones are left out, as a repository's own. Links lead nowhere outside of it,
// so that a directory from elsewhere shows nothing of this machine.
func (r *objectReader) directory(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return unreadable(dir, err)
	}
	defer func() { _ = root.Close() }() // it was only read
	return fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		full := filepath.Join(dir, filepath.FromSlash(name))
		switch {
		case err != nil:
			return unreadable(full, err)
		case name != "." && strings.HasPrefix(e.Name(), "."):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir():
			if strings.Count(name, "/") >= maxObjectDepth {
				return fault.Invalidf(fault.ReasonLimitExceeded, "%s: directories are nested deeper than %d", full, maxObjectDepth)
			}
			return nil
		}
		return r.entry(root, name, full, e)
	})
}

// entry reads a file of a directory, unless its name is that of another kind of file.
func (r *objectReader) entry(root *os.Root, name, full string, e fs.DirEntry) error {
	linked := e.Type()&fs.ModeSymlink != 0
	if !isObjectFile(name) && !linked {
		return nil
	}
	info, err := root.Stat(name)
	switch {
	case err != nil && !isObjectFile(name):
		return nil // a link to something else that is not ours to judge
	case err != nil && linked:
		return fault.Invalidf("FILE_UNREADABLE", "%s is a link that leads nowhere, or out of the directory", full).WithHint("Put the file itself there.")
	case err != nil:
		return unreadable(full, err)
	case info.IsDir():
		return fault.Invalidf("FILE_UNREADABLE", "%s is a link to a directory, which is not followed", full).WithHint("Name that directory with a further -f.")
	case !isObjectFile(name):
		return nil
	case !info.Mode().IsRegular():
		return fault.Invalidf("FILE_UNREADABLE", "%s is not a file", full)
	}
	f, err := root.Open(name)
	if err != nil {
		return unreadable(full, err)
	}
	defer f.Close()
	if name == setFile {
		return r.set(full, f)
	}
	return r.add(full, f)
}

// text reads a file within the limits.
func (r *objectReader) text(name string, from io.Reader) ([]byte, error) {
	if len(r.files) >= maxObjectFiles {
		return nil, fault.Invalidf(fault.ReasonLimitExceeded, "more than %d files; %s is one too many", maxObjectFiles, name).WithHint("Apply them in parts, or write several documents into a file.")
	}
	data, err := io.ReadAll(io.LimitReader(from, maxObjectBytes-r.bytes+1))
	if err != nil {
		return nil, unreadable(name, err)
	}
	if r.bytes += int64(len(data)); r.bytes > maxObjectBytes {
		return nil, fault.Invalidf(fault.ReasonLimitExceeded, "the files are larger than %d bytes together; %s is one too many", maxObjectBytes, name).WithHint("Apply them in parts.")
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, fault.Invalidf(fault.ReasonSyntax, "%s is empty", name)
	}
	return data, nil
}

func (r *objectReader) add(name string, from io.Reader) error {
	data, err := r.text(name, from)
	if err != nil {
		return err
	}
	r.files = append(r.files, &file{name: name, data: data})
	return nil
}

// set reads whose the objects of a directory are.
func (r *objectReader) set(name string, from io.Reader) error {
	data, err := r.text(name, from)
	if err != nil {
		return err
	}
	f := &file{name: name, data: data}
	if f.root, err = specfile.Parse(data); err != nil {
		return f.show(err)
	}
	if f.root.Kind != tree.Object {
		return fault.Invalidf(fault.ReasonSyntax, "%s: expected an object with owner, got %s", name, f.root.Kind)
	}
	if p := unknownKeys(f.root, "", []string{"owner"}); p.Len() > 0 {
		return f.show(p.Err("%s cannot be used", name))
	}
	r.sources[len(r.sources)-1].owner = textAt(f.root, "owner")
	return nil
}

// whose returns the owner of all objects: the one that is said, else the one that every source names. What one directory says of itself
// says nothing of another.
func (r *objectReader) whose(said string) (string, error) {
	if said != "" {
		return said, nil
	}
	for _, o := range r.sources[1:] {
		if one := r.sources[0]; o.owner != one.owner {
			return "", fault.Invalidf("USAGE", "%s, and %s", one.says(), o.says()).WithHint("Apply them one by one, or say --owner.")
		}
	}
	return r.sources[0].owner, nil
}

func (o objectSource) says() string {
	if o.owner == "" {
		return o.name + " names no owner"
	}
	return fmt.Sprintf("%s names the owner %q", o.name, o.owner)
}

// documents reads what is in the files. What is wrong with any of them is shown together.
func (r *objectReader) documents() ([]*objectDoc, error) {
	var out []*objectDoc
	var broken []error
	seen := map[string]*objectDoc{}
	for _, f := range r.files {
		list, err := specfile.ParseAll(f.data, maxObjects)
		if err != nil {
			broken = append(broken, f.among(broken, named(f.name, err)))
			continue
		}
		if len(list) == 0 {
			broken = append(broken, fault.Invalidf(fault.ReasonSyntax, "%s has no document in it", f.name))
		}
		for _, n := range list {
			one := &file{name: f.name, data: f.data, root: n}
			d, err := readDocument(one)
			if err == nil && seen[d.what()] != nil {
				err = d.again(seen[d.what()])
			}
			if err != nil {
				broken = append(broken, one.among(broken, err))
				continue
			}
			seen[d.what()] = d
			out = append(out, d)
		}
	}
	if len(out) > maxObjects {
		return nil, fault.Invalidf(fault.ReasonLimitExceeded, "%d documents, the limit of one apply is %d", len(out), maxObjects).WithHint("Apply them in parts.")
	}
	return out, together(broken)
}
