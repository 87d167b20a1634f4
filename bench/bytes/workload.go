package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"drship/bench/device"
)

const (
	randomBytes = 256 << 20
	port        = "54329"
)

func (b *bench) workloads() map[string]workload {
	return map[string]workload{
		"pgbench":  {prepare: b.initPostgres, run: b.pgbench},
		"packages": {prepare: fetchPackages, run: installPackages},
		"tree":     {run: copyTree},
		"random":   {run: writeRandom},
	}
}

// asPostgres runs one of PostgreSQL's programs as the user postgres, who alone may run its server.
func asPostgres(ctx context.Context, program string, args ...string) error {
	out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output()
	if err != nil {
		return fmt.Errorf("pg_config (Debian packages postgresql, postgresql-contrib): %w", err)
	}
	bin := filepath.Join(strings.TrimSpace(string(out)), program)
	return device.Run(ctx, "runuser", append([]string{"-u", "postgres", "--", bin}, args...)...)
}

func (b *bench) initPostgres(ctx context.Context, m *mounted) error {
	data, socket := filepath.Join(m.root, "data"), m.dir
	if err := errors.Join(os.Mkdir(data, 0o700), device.Run(ctx, "chown", "postgres", data, socket)); err != nil {
		return err
	}
	if err := asPostgres(ctx, "initdb", "-D", data); err != nil {
		return err
	}
	options := fmt.Sprintf("-p %s -k %s -c listen_addresses=''", port, socket)
	if err := asPostgres(ctx, "pg_ctl", "-D", data, "-l", filepath.Join(data, "log"), "-o", options, "-w", "start"); err != nil {
		return err
	}
	m.later(func() error {
		return asPostgres(context.Background(), "pg_ctl", "-D", data, "-m", "fast", "-w", "stop")
	})
	if err := asPostgres(ctx, "pgbench", "-h", socket, "-p", port, "-i", "-q", "-s", fmt.Sprint(b.scale), "postgres"); err != nil {
		return err
	}
	return asPostgres(ctx, "psql", "-h", socket, "-p", port, "-c", "checkpoint", "postgres")
}

func (b *bench) pgbench(ctx context.Context, m *mounted) error {
	return asPostgres(ctx, "pgbench", "-h", m.dir, "-p", port, "-c", "8", "-j", "2", "-T", fmt.Sprint(int(b.time.Seconds())), "postgres")
}

// fetchPackages gets the packages ahead, so that the recording holds their installation alone.
func fetchPackages(ctx context.Context, m *mounted) error {
	cache := filepath.Join(m.dir, "cache")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	return m.debootstrap(ctx, "--download-only", "--keep-debootstrap-dir", filepath.Join(m.dir, "fetched"))
}

// installPackages installs a small Debian, with dpkg, as debootstrap does.
func installPackages(ctx context.Context, m *mounted) error {
	return m.debootstrap(ctx, filepath.Join(m.root, "debian"))
}

func (m *mounted) debootstrap(ctx context.Context, args ...string) error {
	target := args[len(args)-1]
	all := append([]string{"--variant=minbase", "--cache-dir=" + filepath.Join(m.dir, "cache")}, args[:len(args)-1]...)
	return device.Run(ctx, "debootstrap", append(all, "bookworm", target)...)
}

// copyTree copies a source tree twice and changes a tenth of its files.
func copyTree(ctx context.Context, m *mounted) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("find a source tree: %w", err)
	}
	source := os.DirFS(filepath.Join(strings.TrimSpace(string(out)), "src"))
	for _, name := range []string{"one", "two"} {
		if err := os.CopyFS(filepath.Join(m.root, name), source); err != nil {
			return err
		}
		if err := device.Run(ctx, "sync"); err != nil {
			return err
		}
	}
	n := 0
	return fs.WalkDir(source, ".", func(path string, e fs.DirEntry, err error) error {
		if n++; err != nil || e.IsDir() || n%10 != 0 {
			return err
		}
		file := filepath.Join(m.root, "two", path)
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		half := len(text) / 2
		changed := append(append(append([]byte(nil), text[:half]...), fmt.Sprintf("// change %d\n", n)...), text[half:]...)
		return os.WriteFile(file, changed, 0o644)
	})
}

func writeRandom(_ context.Context, m *mounted) (err error) {
	f, err := os.Create(filepath.Join(m.root, "noise"))
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.Reader, randomBytes)
	return errors.Join(err, f.Close())
}
