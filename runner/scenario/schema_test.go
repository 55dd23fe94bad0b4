package scenario

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"blobpglite/scenarios"

	"github.com/goccy/go-yaml"
	"github.com/google/jsonschema-go/jsonschema"
)

var update = flag.Bool("update", false, "write scenarios/schema.json and testdata anew")

// schema makes the JSON Schema of a document from the Go types.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	ref := func(name string) *jsonschema.Schema { return &jsonschema.Schema{Ref: "#/$defs/" + name} }
	out, err := jsonschema.For[Scenario](&jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[Value]():   ref("scalar"),
		reflect.TypeFor[Entries](): ref("mapping"),
		reflect.TypeFor[Step]():    ref("step"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	out.Schema = "https://json-schema.org/draft/2020-12/schema"
	out.Title = "Scenario"
	out.Properties["store"].Enum = []any{"mem", "fake-gcs", "gcs"}
	out.Properties["target"].Enum = []any{"local", "twin"}
	out.Properties["clock"].Enum = []any{"real"}
	out.Properties["profiles"].PropertyNames = &jsonschema.Schema{Enum: []any{"ci", "default", "full"}}
	out.Defs = map[string]*jsonschema.Schema{
		"scalar":  {Types: []string{"string", "number", "boolean"}},
		"list":    {Type: "array", Items: ref("scalar"), MinItems: jsonschema.Ptr(1)},
		"value":   {AnyOf: []*jsonschema.Schema{ref("scalar"), ref("list"), ref("mapping")}},
		"mapping": {Type: "object", AdditionalProperties: ref("value")},
		"step": {AnyOf: []*jsonschema.Schema{{Type: "string"}, {
			Type: "object", AdditionalProperties: ref("value"), MinProperties: jsonschema.Ptr(1), MaxProperties: jsonschema.Ptr(1),
		}}},
	}
	return out
}

func TestSchemaIsFresh(t *testing.T) {
	t.Parallel()
	text, err := json.MarshalIndent(schema(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	path := filepath.Join("..", "..", "scenarios", "schema.json")
	if *update {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != string(text) {
		t.Errorf("scenarios/schema.json is not what the types give: run go test ./runner/scenario -run SchemaIsFresh -update")
	}
}

// The schema is for editors; it must accept what the decoder accepts, and refuse a misspelt field.
func TestSchemaFitsTheDocuments(t *testing.T) {
	t.Parallel()
	resolved, err := schema(t).Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := scenarios.IDs()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		text, err := scenarios.Read(id)
		if err != nil {
			t.Fatal(err)
		}
		document := map[string]any{}
		if err := yaml.Unmarshal(text, &document); err != nil {
			t.Fatal(err)
		}
		if err := resolved.Validate(document); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		document["probs"] = document["probes"]
		if err := resolved.Validate(document); err == nil {
			t.Errorf("%s: the schema accepts the unknown field probs", id)
		}
	}
}
