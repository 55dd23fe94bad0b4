package assets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"blobpglite/core/clock"
)

// cache is the folder that holds fetched and derived files.
type cache struct {
	dir      string // absolute
	progress func(step string, done, total int64)
	create   createFunc
}

// createFunc creates a file for writing; tests substitute failing disks.
type createFunc func(path string) (writeFile, error)

type writeFile interface {
	io.Writer
	Sync() error
	Close() error
}

func createFile(path string) (writeFile, error) { return os.Create(path) }

// lockInterval is how often a waiting process retries the lock.
const lockInterval = 50 * time.Millisecond

// lock waits until no other process makes path, or ctx ends. Progress messages name what during the wait.
func (c *cache) lock(ctx context.Context, path, what string) (unlock func() error, err error) {
	file, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	for told := false; ; told = true {
		held, err := tryLock(file)
		if err == nil && held {
			return file.Close, nil // closing releases the lock
		}
		if err == nil {
			if !told {
				c.progress("waiting for another process that makes "+what, 0, 0)
			}
			err = clock.System().Sleep(ctx, lockInterval)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		}
	}
}

// writeFile creates a file from what fill writes; the file is on disk when it returns.
func (c *cache) writeFile(path string, fill func(io.Writer) error) (err error) {
	file, err := c.create(path)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	defer func() {
		if closeErr := file.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("close %s: %w", path, closeErr)
		}
	}()
	if err := fill(file); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// place renames temp to path and makes the rename durable.
func place(temp, path string) error {
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("put %s in place: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync folder %s: %w", path, err)
	}
	return nil
}
