package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"drship/bench/device"
)

// postgres is a PostgreSQL server whose data are in a folder of the replicated volume.
type postgres struct {
	bin   string // its programs
	data  string
	dir   string // its socket and its log, on a disk of this machine
	owner *syscall.Credential
	cmd   *exec.Cmd     // nil while it does not run
	gone  chan struct{} // closed when it has ended
}

// errNoPostgres is said where PostgreSQL is not installed.
var errNoPostgres = errors.New("PostgreSQL is not installed (Debian package postgresql)")

// findPostgres returns the folder of the newest PostgreSQL's programs.
func findPostgres() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		return "", errNoPostgres
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4]) // 0 for what is no number
		return n
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(newest), nil
}

func newPostgres(data, dir string) (*postgres, error) {
	bin, err := findPostgres()
	if err != nil {
		return nil, err
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoPostgres, err)
	}
	uid, uidErr := strconv.Atoi(who.Uid)
	gid, gidErr := strconv.Atoi(who.Gid)
	if err := errors.Join(uidErr, gidErr, os.MkdirAll(dir, 0o755), os.Chown(dir, uid, gid)); err != nil {
		return nil, fmt.Errorf("make the database's folder: %w", err)
	}
	return &postgres{bin: bin, data: data, dir: dir, owner: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// create makes the database, with pgbench's tables and the one that the writers count in.
func (p *postgres) create(ctx context.Context) error {
	if err := errors.Join(os.Mkdir(p.data, 0o700), os.Chown(p.data, int(p.owner.Uid), int(p.owner.Gid))); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	// Checksums, and small segments so that checkpoints come often.
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "initdb"), "-D", p.data, "-k", "-N", "-A", "trust", "-E", "UTF8", "--locale=C", "--wal-segsize=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.owner}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	if err := p.start(ctx); err != nil {
		return err
	}
	if _, err := p.client(ctx, "pgbench", "-i", "-q", "-s", "1", "postgres"); err != nil {
		return err
	}
	_, err := p.query(ctx, "create extension amcheck; create table counted (writer int, n int, filler text, primary key (writer, n))")
	return err
}

// start starts the server and waits until it takes connections, recovery done.
func (p *postgres) start(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the database's log: %w", err)
	}
	defer log.Close()
	p.cmd = exec.Command(filepath.Join(p.bin, "postgres"), "-D", p.data, "-k", p.dir, "-c", "listen_addresses=",
		"-c", "shared_buffers=16MB", "-c", "max_wal_size=4MB", "-c", "min_wal_size=2MB", "-c", "autovacuum_naptime=1s", "-c", "log_checkpoints=on")
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.owner, Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.cmd = nil
		return fmt.Errorf("start the database: %w", err)
	}
	gone, cmd := make(chan struct{}), p.cmd
	p.gone = gone
	go func() { // ends with the process; stop and kill wait for it
		_ = cmd.Wait()
		close(gone)
	}()
	err = device.Await(ctx, func() bool {
		select {
		case <-gone:
			return true
		default:
		}
		_, err := p.query(ctx, "select 1")
		return err == nil
	})
	select {
	case <-gone:
		err = errors.New("it ended")
	default:
	}
	if err != nil {
		return fmt.Errorf("the database does not start: %w:\n%s", err, p.log())
	}
	return nil
}

// stop ends the server in order.
func (p *postgres) stop(ctx context.Context) error {
	if p.cmd == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		return fmt.Errorf("stop the database: %w", err)
	}
	select {
	case <-p.gone:
		p.cmd = nil
		return nil
	case <-ctx.Done():
		p.kill()
		return fmt.Errorf("the database does not stop: %w:\n%s", ctx.Err(), p.log())
	}
}

// kill ends all its processes as a loss of power would. Those that wait for a disk which does not answer are gone when it fails.
func (p *postgres) kill() {
	if p.cmd == nil {
		return
	}
	server := p.cmd.Process
	_ = server.Signal(syscall.SIGSTOP) // no new children; an error means that it is gone already
	for _, child := range children(server.Pid) {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	_ = server.Kill()
	p.cmd = nil
}

// children of a process.
func children(parent int) (pids []int) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		i := bytes.LastIndexByte(text, ')') // a command may hold spaces
		fields := strings.Fields(string(text[i+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(parent) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// command is one of PostgreSQL's client programs, for the server.
func (p *postgres) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, program), append([]string{"-h", p.dir, "-U", "postgres"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (p *postgres) client(ctx context.Context, program string, args ...string) (string, error) {
	out, err := p.command(ctx, program, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", program, err, out[max(0, len(out)-2<<10):])
	}
	return string(out), nil
}

// query returns what a statement answers: rows in lines, columns with bars between them.
func (p *postgres) query(ctx context.Context, sql string) (string, error) {
	return p.client(ctx, "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, "postgres")
}

// check wants the whole database to be sound: every table and index, and the sums that each of pgbench's transactions keeps equal.
func (p *postgres) check(ctx context.Context) error {
	if out, err := p.client(ctx, "pg_amcheck", "--all", "--install-missing", "--heapallindexed", "--rootdescend", "--parent-check", "--no-strict-names"); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	sums, err := p.query(ctx, "select (select sum(abalance) from pgbench_accounts) - (select sum(tbalance) from pgbench_tellers), "+
		"(select sum(abalance) from pgbench_accounts) - (select sum(bbalance) from pgbench_branches), "+
		"(select sum(abalance) from pgbench_accounts) - (select coalesce(sum(delta), 0) from pgbench_history)")
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(sums); got != "0|0|0" {
		return fmt.Errorf("pgbench's sums differ by %s: a transaction is there in part", got)
	}
	return nil
}

// log is the end of the server's log.
func (p *postgres) log() string {
	text, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4<<10):])
}
