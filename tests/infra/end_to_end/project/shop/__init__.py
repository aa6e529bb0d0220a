"""What a user of TaskFlow deploys: a package with tasks, in a project of its own."""
