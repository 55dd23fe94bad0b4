package assets

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// installRoot is where PostgreSQL is installed in its own file tree.
const installRoot = "/pglite"

// maxExtensionBytes bounds an unpacked extension.
const maxExtensionBytes = 64 << 20

// File is a file of PostgreSQL's own file tree.
type File struct {
	Path       string // absolute and clean, with slashes
	Data       []byte // read only: files may share memory
	Executable bool
}

// Files returns the files of a PostgreSQL installation: programs, side modules, share/, time zones, ICU data, in the
// package's order.
func (s *Set) Files() ([]File, error) {
	glue, data, err := s.readInstallation()
	if err != nil {
		return nil, err
	}
	files, err := parseFiles(glue, data)
	if err != nil {
		return nil, fmt.Errorf("read the list of files in %s: %w", filepath.Join(s.Dir, glueFile), err)
	}
	return files, nil
}

// Dirs returns the folders that the package creates, parents first, including every folder of a file of [Set.Files].
func (s *Set) Dirs() ([]string, error) {
	glue, err := s.Original(filepath.Join(s.Dir, glueFile))
	if err != nil {
		return nil, fmt.Errorf("read the list of folders: %w", err)
	}
	dirs, err := parseDirs(glue)
	if err != nil {
		return nil, fmt.Errorf("read the list of folders in %s: %w", filepath.Join(s.Dir, glueFile), err)
	}
	return dirs, nil
}

// ExtensionFiles returns the files of a contrib extension, named as in [Set.Extensions], to be added to those of
// [Set.Files].
func (s *Set) ExtensionFiles(name string) ([]File, error) {
	f, ok := s.pin.file(name + extensionSuffix)
	if !ok {
		return nil, fmt.Errorf("read extension %q: there is no such extension; available are %s", name, strings.Join(s.Extensions(), ", "))
	}
	file := filepath.Join(s.Dir, f.Name)
	archive, err := s.Original(file)
	if err != nil {
		return nil, fmt.Errorf("read extension %s: %w", name, err)
	}
	return readExtension(name, file, archive)
}

func readExtension(name, file string, archive []byte) ([]File, error) {
	files, err := untar(bytes.NewReader(archive))
	if err != nil {
		return nil, fmt.Errorf("read extension %s in %s: %w", name, file, err)
	}
	return files, nil
}

func untar(archive io.Reader) ([]File, error) {
	var files []File
	err := eachTarFile(archive, maxExtensionBytes, func(h *tar.Header, contents io.Reader) error {
		data, err := io.ReadAll(contents)
		if err != nil {
			return fmt.Errorf("read entry %q: %w", h.Name, err)
		}
		files = append(files, File{Path: path.Join(installRoot, h.Name), Data: data, Executable: h.Mode&0o111 != 0})
		return nil
	})
	return files, err
}

func (s *Set) readInstallation() (glue, data []byte, err error) {
	if glue, err = s.Original(filepath.Join(s.Dir, glueFile)); err != nil {
		return nil, nil, fmt.Errorf("read the list of files: %w", err)
	}
	if data, err = s.Original(filepath.Join(s.Dir, dataFile)); err != nil {
		return nil, nil, fmt.Errorf("read the installation: %w", err)
	}
	return glue, data, nil
}

// The syntax of the glue code, with the variations that minifiers produce: spaces, quoted keys, either quote, numbers
// with an exponent.
const (
	stringPattern = `("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')`
	numberPattern = `([0-9]+(?:\.[0-9]+)?(?:e[0-9]+)?)`
	filePattern   = `\{\s*["']?filename["']?\s*:\s*` + stringPattern +
		`\s*,\s*["']?start["']?\s*:\s*` + numberPattern + `\s*,\s*["']?end["']?\s*:\s*` + numberPattern
	dirPattern = `FS_createPath["']?\]?\(\s*` + stringPattern + `\s*,\s*` + stringPattern + `\s*,`
)

// parseFiles cuts data into the files that the glue code lists. The list must cover data from its first byte to its last
// without gap or overlap, so that no missed entry goes unnoticed.
func parseFiles(glue, data []byte) ([]File, error) {
	var files []File
	at := int64(0)
	for _, m := range regexp.MustCompile(filePattern).FindAllSubmatch(glue, -1) {
		name, err := unquote(m[1])
		if err != nil {
			return nil, err
		}
		start, err := wholeNumber(m[2])
		if err != nil {
			return nil, err
		}
		end, err := wholeNumber(m[3])
		if err != nil {
			return nil, err
		}
		if !path.IsAbs(name) || path.Clean(name) != name || name == "/" {
			return nil, fmt.Errorf("%w: entry %q is not an absolute path", ErrDamaged, name)
		}
		if start != at || end < start || end > int64(len(data)) {
			return nil, fmt.Errorf("%w: entry %q has bytes %d..%d of %d, it should start at %d", ErrDamaged, name, start, end, len(data), at)
		}
		executable := path.Dir(name) == installRoot+"/bin"
		files = append(files, File{Path: name, Data: data[start:end:end], Executable: executable})
		at = end
	}
	if at != int64(len(data)) {
		return nil, fmt.Errorf("%w: its %d entries cover %d bytes of %d", ErrDamaged, len(files), at, len(data))
	}
	return files, nil
}

func parseDirs(glue []byte) ([]string, error) {
	var dirs []string
	for _, m := range regexp.MustCompile(dirPattern).FindAllSubmatch(glue, -1) {
		parent, err := unquote(m[1])
		if err != nil {
			return nil, err
		}
		name, err := unquote(m[2])
		if err != nil {
			return nil, err
		}
		dir := path.Join(parent, name)
		if !path.IsAbs(parent) || dir == "/" || path.Dir(dir) != path.Clean(parent) {
			return nil, fmt.Errorf("%w: folder %q in %q", ErrDamaged, name, parent)
		}
		dirs = append(dirs, dir)
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("%w: it creates no folders", ErrDamaged)
	}
	return dirs, nil
}

// unquote reads a JavaScript string in single or double quotes.
func unquote(quoted []byte) (string, error) {
	s := string(quoted)
	if s[0] == '\'' { // as Go's double-quoted string
		s = `"` + strings.ReplaceAll(strings.ReplaceAll(s[1:len(s)-1], `\'`, `'`), `"`, `\"`) + `"`
	}
	text, err := strconv.Unquote(s)
	if err != nil {
		return "", fmt.Errorf("%w: string %s: %w", ErrDamaged, quoted, err)
	}
	return text, nil
}

// wholeNumber reads a JavaScript number that must be a whole number, exactly.
func wholeNumber(digits []byte) (int64, error) {
	f, err := strconv.ParseFloat(string(digits), 64)
	if err != nil || f != float64(int64(f)) || f > 1<<40 {
		return 0, fmt.Errorf("%w: number %s", ErrDamaged, digits)
	}
	return int64(f), nil
}
