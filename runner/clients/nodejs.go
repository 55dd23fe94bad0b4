package clients

// nodeTrials are clients in Node: ORMs, queues.
func nodeTrials() []Trial {
	const (
		npmDrizzle   = "drizzle-orm@0.45.4"
		npmTypeORM   = "typeorm@1.1.1"
		npmSequelize = "sequelize@6.37.8"
		npmHstore    = "pg-hstore@2.3.4" // required by Sequelize
		npmBoss      = "pg-boss@12.38.0"
		npmGraphile  = "graphile-worker@0.18.0"
		npmPrisma    = "@prisma/adapter-pg@7.10.1"
	)
	const orm = "migrations, concurrent transactions from its pool, ids that belong to their rows"
	return []Trial{
		{Name: "drizzle", Doc: orm + ", a tenant in SET LOCAL", run: node("drizzle.mjs", npmDrizzle, npmPG)},
		{Name: "typeorm", Doc: orm + ", serializable", run: node("typeorm.mjs", npmTypeORM, npmPG)},
		{Name: "sequelize", Doc: orm + ", repeatable read", run: node("sequelize.mjs", npmSequelize, npmPG, npmHstore)},
		{Name: "prisma_adapter", Doc: "Prisma's driver adapter: " + orm + ", serializable", run: node("prisma_adapter.mjs", npmPrisma, npmPG)},
		{Name: "pg_boss", Doc: "two instances that start simultaneously, workers, retries", run: node("pg_boss.mjs", npmBoss, npmPG)},
		{Name: "graphile_worker", Doc: "two runners that rely on notifications, retries, job keys", run: node("graphile_worker.mjs", npmGraphile, npmPG)},
	}
}
