package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bermhq/berm/internal/core/fault"
	"github.com/bermhq/berm/internal/core/spec"
)

// objectFolders are the folders of the files of each kind.
var objectFolders = map[string]string{"zone": "zones", "profile": "profiles", "runner": "runners"}

// exportTo writes a file for each object. A file that is there and is no longer of an object is named: whoever applies the directory
// would make the object again.
func (s *session) exportTo(dir string, all []exported) error {
	written, err := objectPaths(all)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return unwritable(dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return unwritable(dir, err)
	}
	defer func() { _ = root.Close() }() // its files are closed by then
	for _, o := range all {
		text, err := o.text()
		if err != nil {
			return err
		}
		if err := writeObject(root, dir, o.path(), text); err != nil {
			return err
		}
	}
	if err := s.noteOthers(dir, written); err != nil {
		return err
	}
	return s.report(nil, "%s written below %s", counted(len(all), "object"), dir)
}

// path is where the file of an object is within the directory.
func (o exported) path() string { return filepath.Join(objectFolders[o.kind], o.name+".yaml") }

// objectPaths returns the files of objects. Names come from a server or a file of somebody else: one that no object can have is no name
// of a file, before anything is written.
func objectPaths(all []exported) (map[string]bool, error) {
	paths := map[string]bool{}
	for _, o := range all {
		if err := spec.CheckName("name", o.name); err != nil {
			f := fault.From(err)
			f.Message = fmt.Sprintf("a %s has a name that cannot be that of a file", o.kind)
			return nil, f
		}
		if paths[o.path()] {
			return nil, fault.Invalidf(fault.ReasonFieldInvalid, "%s %s is there twice, and would be one file", o.kind, o.name)
		}
		paths[o.path()] = true
	}
	return paths, nil
}

// writeObject writes a file within the directory, and through no link: what it leads to is not of this directory.
func writeObject(root *os.Root, dir, path string, text []byte) error {
	folder, full := filepath.Dir(path), filepath.Join(dir, path)
	if info, err := root.Lstat(folder); err == nil && !info.IsDir() {
		return fault.Invalidf("FILE_UNWRITABLE", "%s is there, and is not a directory", filepath.Join(dir, folder)).WithHint("Remove it, or name another directory.")
	}
	if err := root.MkdirAll(folder, 0o777); err != nil {
		return unwritable(filepath.Join(dir, folder), err)
	}
	info, err := root.Lstat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return fault.Invalidf("FILE_UNWRITABLE", "%s is there, and is not a file", full).WithHint("Remove it, or name another directory.")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return unwritable(full, err)
	}
	if err := root.WriteFile(path, text, 0o666); err != nil {
		return unwritable(full, err)
	}
	return nil
}

// noteOthers names the files of a directory that were not written.
func (s *session) noteOthers(dir string, written map[string]bool) error {
	var others []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		within, err := filepath.Rel(dir, path)
		if err == nil && !e.IsDir() && isObjectFile(path) && !written[within] && within != setFile {
			others = append(others, path)
		}
		return err
	})
	if err != nil {
		return unreadable(dir, err)
	}
	for _, path := range others[:min(len(others), 20)] {
		fmt.Fprintln(s.Err, clean("note: "+path+" is not of this export; apply would read it too"))
	}
	if more := len(others) - 20; more > 0 {
		fmt.Fprintf(s.Err, "note: and %d more files\n", more)
	}
	return nil
}

// isObjectFile reports whether a directory that is applied is read for a file of this name.
func isObjectFile(name string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(name)))
}
