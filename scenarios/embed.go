// Package scenarios holds the experiments as documents, one YAML file each,
// built into the binary.
//
//	ids, err := scenarios.IDs()      // "e2", "sql"
//	text, err := scenarios.Read("e2")
//
// schema.json, beside the documents, gives editors completion; it is generated
// from the types of runner/scenario.
package scenarios

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed *.yaml
var documents embed.FS

// IDs gives the ids of the documents in the order of their names.
func IDs() ([]string, error) {
	names, err := fs.Glob(documents, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("list the scenarios: %w", err)
	}
	for i, name := range names {
		names[i] = strings.TrimSuffix(name, ".yaml")
	}
	return names, nil
}

// Read gives the text of the document of that id.
func Read(id string) ([]byte, error) {
	text, err := documents.ReadFile(id + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("read the scenario %s: %w", id, err)
	}
	return text, nil
}
