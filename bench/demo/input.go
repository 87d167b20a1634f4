package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// input is what the client copies in.
type input struct {
	*os.File
	name string
	size int64 // bytes
}

// openInput opens path, or makes a tar of Go's own sources in dir.
func openInput(ctx context.Context, path, dir string) (input, error) {
	name := path
	if path == "" {
		root, err := goroot(ctx)
		if err != nil {
			return input{}, err
		}
		name, path = "a tar of "+filepath.Join(root, "src"), filepath.Join(dir, "input.tar")
		if err := archive(ctx, filepath.Join(root, "src"), path); err != nil {
			return input{}, err
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return input{}, err
	}
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() == 0) {
		err = fmt.Errorf("%s is not a file with something in it", path)
	}
	if err != nil {
		return input{}, errors.Join(err, f.Close())
	}
	return input{File: f, name: name, size: st.Size()}, nil
}

func goroot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("ask go for its root: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// archive writes the regular files below root to a tar at path.
func archive(ctx context.Context, root, path string) (err error) {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w := tar.NewWriter(out)
	err = filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		return add(w, root, p)
	})
	if err != nil {
		return fmt.Errorf("archive %s: %w", root, err)
	}
	return w.Close()
}

func add(w *tar.Writer, root, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	h, err := tar.FileInfoHeader(st, "")
	if err != nil {
		return err
	}
	if h.Name, err = filepath.Rel(root, path); err != nil {
		return err
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}
