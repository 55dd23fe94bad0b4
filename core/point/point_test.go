package point_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"blobpglite/core/point"
)

func TestHook(t *testing.T) {
	var none point.Hook
	if err := none.Fire(t.Context(), point.CommitBeforeAck); err != nil {
		t.Errorf("the nil hook returns %v", err)
	}
	want := errors.New("dead")
	var got point.Point
	hook := point.Hook(func(_ context.Context, p point.Point) error {
		got = p
		return want
	})
	if err := hook.Fire(t.Context(), point.ManifestAfterCAS); !errors.Is(err, want) || got != point.ManifestAfterCAS {
		t.Errorf("the hook got %q and its error came back as %v", got, err)
	}
}

// Every constant of this package is in All, once, documented, and of the form step/moment.
func TestAllIsComplete(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "point.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^[a-z]+/(before|after)(-[a-z]+)+$`)
	all := point.All()
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		declared++
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil || !form.MatchString(value) {
			t.Errorf("%s is %q, want step/before-act or step/after-act", spec.Names[0], value)
		}
		if spec.Doc == nil {
			t.Errorf("%s does not say what is durable then", spec.Names[0])
		}
		if !slices.Contains(all, point.Point(value)) {
			t.Errorf("All lacks %s", spec.Names[0])
		}
		return true
	})
	if unique := slices.Compact(slices.Sorted(slices.Values(all))); len(unique) != declared || len(all) != declared {
		t.Errorf("%d points are declared, All has %d, %d different", declared, len(all), len(unique))
	}
}
