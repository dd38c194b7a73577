package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// meeting replaces the program of a store by one that goes on only when as many of it run at a time.
func meeting(t *testing.T, s *Store, many int) {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\n: > %[1]s/$$\nwhile [ $(ls %[1]s | wc -l) -lt %d ]; do sleep 0.01; done\nexec %s \"$@\"\n", dir, many, s.program)
	path := filepath.Join(t.TempDir(), "mkfs.ext4")
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	s.program = path
}

// all runs f for each number at the same time and waits for them.
func all(many int, f func(i int)) {
	var running sync.WaitGroup
	for i := range many {
		running.Go(func() { f(i) })
	}
	running.Wait()
}

// TestParallel: file systems of several sizes are made at the same time, each size once however many want it, and nobody gets a part of one.
func TestParallel(t *testing.T) {
	const sizes, each = 3, 8
	s := open(t)
	meeting(t, s, sizes)
	dir := t.TempDir()
	image := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
	all(sizes*each, func(i int) {
		if err := s.Make(t.Context(), image(i), MinBytes+int64(i%sizes)*blockBytes); err != nil {
			t.Error(err)
		}
	})
	for i := range sizes * each {
		target := image(i) + "-mounted"
		if err := errors.Join(os.Mkdir(target, 0o700), Mount(image(i), target), os.WriteFile(filepath.Join(target, "file"), []byte("x"), 0o600), Unmount(target)); err != nil {
			t.Error(err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(s.dir, "*.ext4*")); err != nil || len(left) != sizes {
		t.Errorf("%q %v", left, err)
	}
}

// TestParallelManySizes: a template stays as long as somebody copies it, however many others are asked for meanwhile.
func TestParallelManySizes(t *testing.T) {
	s := open(t)
	template := filepath.Join(t.TempDir(), "ready.ext4")
	if err := s.make(t.Context(), template, MinBytes); err != nil {
		t.Fatal(err)
	}
	stub := filepath.Join(t.TempDir(), "mkfs.ext4") // A copy of one, so that many take no time.
	if err := os.WriteFile(stub, []byte("#!/bin/sh\nfor last; do :; done\nexec cp --sparse=always "+template+" \"$last\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.program = stub
	dir := t.TempDir()
	all(8, func(i int) {
		image := filepath.Join(dir, fmt.Sprint(i))
		for j := range maxTemplates/4 + 2 {
			if err := s.Make(t.Context(), image, MinBytes+int64(i*100+j)*blockBytes); err != nil {
				t.Error(err)
			}
		}
	})
	if left, err := filepath.Glob(filepath.Join(s.dir, "*.ext4")); err != nil || len(left) != maxTemplates || len(s.sizes) != maxTemplates || len(s.templates) != maxTemplates {
		t.Errorf("%d are kept, of %d sizes, %v", len(left), len(s.sizes), err)
	}
}

// TestMakeFails: who could not be served leaves nothing in the way of the next.
func TestMakeFails(t *testing.T) {
	s := open(t)
	program := s.program
	s.program = "/bin/false"
	image := filepath.Join(t.TempDir(), "image")
	if err := s.Make(t.Context(), image, MinBytes); err == nil {
		t.Error("made by a program that fails")
	}
	if _, err := os.Lstat(image); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
	s.program = program
	if err := s.Make(t.Context(), image, MinBytes); err != nil {
		t.Error(err)
	}
}

// TestDamaged: a file system that turns out to be damaged takes nothing more.
func TestDamaged(t *testing.T) {
	s := open(t)
	at := t.TempDir()
	image, dir := filepath.Join(at, "image"), filepath.Join(at, "root")
	if err := errors.Join(s.Make(t.Context(), image, 64<<20), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	damage(t, image)
	if err := Mount(image, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Unmount(dir); err != nil {
			t.Error(err)
		}
	})
	root := openDir(t, dir)
	var err error
	for i := 0; i < 1000 && !errors.Is(err, unix.EROFS); i++ {
		err = os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), make([]byte, 1<<16), 0o600)
		_ = unix.Syncfs(root) // Blocks are given out when they are written.
	}
	if !errors.Is(err, unix.EROFS) {
		t.Errorf("a damaged file system takes files: %v", err)
	}
}

// damage makes the first group of a file system say of its blocks what cannot be.
func damage(t *testing.T, image string) {
	t.Helper()
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var descriptor [4]byte // Of the first group: it begins with the block of its bitmap.
	if _, err := f.ReadAt(descriptor[:], blockBytes); err != nil {
		t.Fatal(err)
	}
	bitmap := int64(descriptor[0]) | int64(descriptor[1])<<8 | int64(descriptor[2])<<16 | int64(descriptor[3])<<24
	if _, err := f.WriteAt(make([]byte, blockBytes), bitmap*blockBytes); err != nil {
		t.Fatal(err)
	}
}
