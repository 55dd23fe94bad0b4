package location_test

import (
	"fmt"

	"blobpglite/core/store/location"
)

func ExampleParse() {
	for _, text := range []string{"gs://my-bucket/my-database/", "file:///srv/notes", "gs://my-bucket"} {
		at, err := location.Parse(text)
		fmt.Println(at.IsFolder(), at, err != nil)
	}
	// Output:
	// false gs://my-bucket/my-database false
	// true file:///srv/notes false
	// false gs:/// true
}
